//! The end-to-end suite: one file per feature, each effect read from inside a container.
#![forbid(unsafe_code)]

mod annotations;
mod answers;
mod apparmor;
mod attack;
mod broken_bundles;
mod capabilities;
mod cgroups_path;
mod checkpoint;
mod checkpoint_disk;
mod checkpoint_refused;
mod configuration;
mod crash;
mod crowd;
mod delegate;
mod delegate_verbs;
mod devices;
mod disk;
mod doctor;
mod domainname;
mod engines;
mod events;
mod exec;
mod exec_cgroup;
mod exec_failures;
mod exec_foreground;
mod exec_namespaces;
mod exec_parallel;
mod exec_record;
mod exec_terminal;
mod exit_codes;
mod exit_record;
mod exit_watcher;
mod features;
mod foreground;
mod gc;
mod hooks;
mod hostname;
mod inherited;
mod kernels;
mod leak_check;
mod lifecycle;
mod limits;
mod list;
mod listen_fds;
mod log_format;
mod lxc;
mod masked_paths;
mod memory_policy;
mod mount_idmap;
mod mount_options;
mod mount_targets;
mod mount_types;
mod namespaces;
mod nested_engine;
mod nested_lxc;
mod nested_sandbox;
mod no_new_privileges;
mod notify_socket;
mod oom_score_adj;
mod out_of_memory;
mod parallel;
mod pause;
mod pct_double;
mod pid_file;
mod pidfd_socket;
mod plan;
mod process;
mod proxmox;
mod ps;
mod quadlet;
mod readonly_paths;
mod resources_blkio;
mod resources_cpu;
mod resources_devices;
mod resources_hugepages;
mod resources_memory;
mod resources_pids;
mod resources_unified;
mod rlimits;
mod root;
mod rootfs_propagation;
mod rootless;
mod rootless_podman;
mod routing;
mod schema_walk;
mod seccomp;
mod seccomp_notify;
mod specification;
mod stale_state;
mod sysctl;
mod systemd;
mod terminal;
mod timings;
mod untrusted_code;
mod update;
mod user;
mod user_namespace;
mod vm;
mod vm_disk;
mod vm_engines;
mod vm_network;

fn main() -> std::process::ExitCode {
    let own = vec![
        process::trials(),
        vm::trials(),
        vm_disk::trials(),
        vm_network::trials(),
        vm_engines::trials(),
        user::trials(),
        capabilities::trials(),
        rlimits::trials(),
        no_new_privileges::trials(),
        apparmor::trials(),
        oom_score_adj::trials(),
        root::trials(),
        hostname::trials(),
        domainname::trials(),
        annotations::trials(),
        inherited::trials(),
        terminal::trials(),
        timings::trials(),
        foreground::trials(),
        listen_fds::trials(),
        mount_types::trials(),
        mount_idmap::trials(),
        mount_options::trials(),
        mount_targets::trials(),
        rootfs_propagation::trials(),
        masked_paths::trials(),
        memory_policy::trials(),
        readonly_paths::trials(),
        attack::trials(),
        broken_bundles::trials(),
        namespaces::trials(),
        user_namespace::trials(),
        rootless::trials(),
        rootless_podman::trials(),
        untrusted_code::trials(),
        nested_engine::trials(),
        nested_lxc::trials(),
        nested_sandbox::trials(),
        devices::trials(),
        sysctl::trials(),
        cgroups_path::trials(),
        checkpoint::trials(),
        checkpoint::check_trials(),
        checkpoint_disk::trials(),
        checkpoint_refused::trials(),
        resources_memory::trials(),
        resources_cpu::trials(),
        resources_pids::trials(),
        resources_devices::trials(),
        resources_blkio::trials(),
        resources_hugepages::trials(),
        resources_unified::trials(),
        systemd::trials(),
        systemd::properties::trials(),
        systemd::trouble::trials(),
        systemd::service::trials(),
        systemd::pods::trials(),
        quadlet::trials(),
        seccomp::trials(),
        seccomp_notify::trials(),
        kernels::trials(),
        schema_walk::trials(),
        specification::trials(),
        crash::trials(),
        configuration::trials(),
        routing::trials(),
        delegate::trials(),
        delegate_verbs::trials(),
        hooks::trials(),
        lifecycle::trials(),
        limits::trials(),
        exit_codes::trials(),
        exit_record::trials(),
        out_of_memory::trials(),
        exit_watcher::trials(),
        pause::trials(),
        ps::trials(),
        events::trials(),
        update::trials(),
        list::trials(),
        crowd::trials(),
        pid_file::trials(),
        pidfd_socket::trials(),
        notify_socket::trials(),
        plan::trials(),
        log_format::trials(),
        exec::trials(),
        exec_record::trials(),
        exec_terminal::trials(),
        exec_namespaces::trials(),
        exec_cgroup::trials(),
        exec_foreground::trials(),
        exec_parallel::trials(),
        exec_failures::trials(),
        stale_state::trials(),
        gc::trials(),
        disk::trials(),
        disk::kept::trials(),
        disk::own::trials(),
        doctor::trials(),
        parallel::trials(),
        answers::trials(),
        features::trials(),
        engines::podman::trials(),
        engines::podman::checkpoints(),
        engines::containerd::trials(),
        engines::containerd::compared(),
        engines::docker::trials(),
        engines::routing::trials(),
        engines::exit_record::trials(),
        leak_check::trials(),
        lxc::trials(),
        pct_double::trials(),
        proxmox::trials(),
    ];
    harness::main(own.into_iter().chain(lxc::also(on_lxc())).chain(proxmox::also(on_lxc())).collect())
}

/// What is tried on the LXC backend as well.
fn on_lxc() -> Vec<harness::Feature> {
    vec![
        process::trials(),
        user::trials(),
        capabilities::trials(),
        rlimits::trials(),
        no_new_privileges::trials(),
        oom_score_adj::trials(),
        root::trials(),
        hostname::trials(),
        inherited::trials(),
        terminal::trials(),
        foreground::trials(),
        mount_types::trials(),
        mount_options::trials(),
        mount_targets::trials(),
        masked_paths::trials(),
        readonly_paths::trials(),
        user_namespace::trials(),
        devices::trials(),
        sysctl::trials(),
        resources_memory::trials(),
        resources_cpu::trials(),
        resources_pids::trials(),
        resources_devices::trials(),
        seccomp::trials(),
        hooks::trials(),
        exit_codes::trials(),
        pause::trials(),
        exec::trials(),
        exec_terminal::trials(),
        exec_failures::trials(),
        engines::podman::trials(),
        engines::containerd::trials(),
    ]
}
