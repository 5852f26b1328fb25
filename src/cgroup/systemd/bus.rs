//! A connection to systemd, by way of a bus or direct. All that is said on one has one time limit together.
//!
//! The bus comes first, as with runc: the direct socket is systemd's own business with systemctl (systemd(1)), and is used
//! where no bus answers. Authentication is waited for: systemd's own socket does not see a call that it reads together with
//! that, until more comes. The calls after it go out in one write.

use super::message::{self, ERROR, HEAD, LONGEST, Message, RETURN, SIGNAL, Target};
use super::value::Value;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use wharf_core::Manager;
use wharf_sys::dir::effective_uid;
use wharf_sys::{Errno, event, socket};

/// How long one exchange may take: systemd gets as long as with runc.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// Signals that are kept while an answer is waited for.
const MOST_SIGNALS: usize = 1024;

const BUS: Target =
    Target { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// Why an exchange did not come to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody is there: each address, and why.
    Absent(String),
    /// Somebody is there and says nothing.
    Silent,
    /// What was said is not D-Bus, or ended too early.
    Broken(&'static str),
    /// An answer that is an error: its name and its words.
    Refused(String, String),
    System(Errno),
}

impl Trouble {
    /// The last part of an error's name: `UnitExists`.
    pub(super) fn refusal(&self) -> &str {
        match self {
            Trouble::Refused(name, _) => name.rsplit('.').next().unwrap_or_default(),
            _ => "",
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Trouble::Absent(why) => format!("nobody to speak to: {why}"),
            Trouble::Silent => format!("no answer within {} seconds", LIMIT.as_secs()),
            Trouble::Broken(why) => (*why).to_owned(),
            Trouble::System(errno) => wharf_core::errno_text(*errno as i32),
            Trouble::Refused(name, words) => match self.refusal() {
                "UnitExists" => "a unit of that name exists".to_owned(),
                "AccessDenied" | "InteractiveAuthorizationRequired" => "it is not for us to ask".to_owned(),
                // Engines read a runtime's words for what became of the payload's command.
                _ if is_ambiguous(words) => name.clone(),
                _ => format!("{words} ({name})"),
            },
        }
    }
}

fn is_ambiguous(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    ["no such file", "permission denied", "not permitted", "executable file", "no such process"]
        .iter()
        .any(|engine| words.contains(engine))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Path(String),
    Abstract(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    place: Place,
    direct: bool,
}

/// Where a manager may be spoken to, the best first. Whoever names the system's bus means that one alone.
fn addresses(manager: Manager, variable: impl Fn(&str) -> Option<String>) -> Vec<Address> {
    let path = |path: String, direct: bool| Address { place: Place::Path(path), direct };
    match manager {
        Manager::System => match variable("DBUS_SYSTEM_BUS_ADDRESS") {
            Some(list) => parse(&list),
            None => {
                vec![path("/run/dbus/system_bus_socket".into(), false), path("/run/systemd/private".into(), true)]
            }
        },
        Manager::User => {
            let mut all = variable("DBUS_SESSION_BUS_ADDRESS").map(|list| parse(&list)).unwrap_or_default();
            let dir = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{}", effective_uid()));
            let usual = path(format!("{dir}/bus"), false);
            if !all.contains(&usual) {
                all.push(usual);
            }
            all.push(path(format!("{dir}/systemd/private"), true));
            all
        }
    }
}

/// The addresses of local sockets among those that a variable lists (D-Bus Specification, "Server Addresses").
fn parse(list: &str) -> Vec<Address> {
    let one = |address: &str| {
        let options = address.strip_prefix("unix:")?;
        let place = options.split(',').find_map(|option| match option.split_once('=')? {
            ("path", path) => Some(Place::Path(unescape(path))),
            ("abstract", name) => Some(Place::Abstract(unescape(name))),
            _ => None,
        })?;
        Some(Address { place, direct: false })
    };
    list.split(';').filter_map(one).collect()
}

fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = hex.filter(|_| *first == b'%').and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Connects and says what `exchange` says. The next address is tried only where nobody is at one.
pub(super) fn with<T>(
    manager: Manager,
    mut exchange: impl FnMut(&mut Bus) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    let until = Instant::now() + LIMIT;
    let mut absent = Vec::new();
    for address in addresses(manager, |name| std::env::var(name).ok().filter(|value| !value.is_empty())) {
        let shown = match &address.place {
            Place::Path(path) => path.clone(),
            Place::Abstract(name) => format!("@{name}"),
        };
        match Bus::connect(&address, until).and_then(|mut bus| exchange(&mut bus)) {
            Err(Trouble::Absent(why)) => absent.push(format!("{shown} {why}")),
            other => return other,
        }
    }
    if absent.is_empty() {
        absent.push("no local address is named".to_owned());
    }
    Err(Trouble::Absent(absent.join(", ")))
}

pub(super) struct Bus {
    socket: OwnedFd,
    until: Instant,
    /// Without a bus in between.
    direct: bool,
    serial: u32,
    /// What waits to be sent.
    output: Vec<u8>,
    /// What has come and is not read yet.
    input: Vec<u8>,
    authenticated: bool,
    signals: Vec<Message>,
}

impl Bus {
    fn connect(address: &Address, until: Instant) -> Result<Bus, Trouble> {
        let socket = socket::stream().map_err(Trouble::System)?;
        socket::set_send_limit(&socket, LIMIT.as_secs() as i64).map_err(Trouble::System)?;
        let connected = match &address.place {
            Place::Path(path) => {
                CString::new(path.as_str()).map_err(|_| Errno::EINVAL).and_then(|path| socket::connect(&socket, &path))
            }
            Place::Abstract(name) => socket::connect_abstract(&socket, name.as_bytes()),
        };
        match connected {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return Err(Trouble::Silent),
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(Trouble::Absent("is not there".into())),
            Err(Errno::ECONNREFUSED) => return Err(Trouble::Absent("has nobody listening".into())),
            Err(Errno::EACCES | Errno::EPERM) => return Err(Trouble::Absent("is not for us".into())),
            Err(errno) => return Err(Trouble::Absent(wharf_core::errno_text(errno as i32))),
        }
        Ok(Bus::over(socket, address.direct, until))
    }

    fn over(socket: OwnedFd, direct: bool, until: Instant) -> Bus {
        let (output, input, signals) = (Vec::new(), Vec::new(), Vec::new());
        let mut bus = Bus { socket, until, direct, serial: 0, output, input, authenticated: false, signals };
        if !direct {
            bus.queue(BUS, "Hello", &[], true);
        }
        bus
    }

    /// Lets a bus hand on these signals; without one all of them come.
    pub(super) fn watch(&mut self, rule: &str) {
        if !self.direct {
            self.queue(BUS, "AddMatch", &[Value::Text(rule.to_owned())], false);
        }
    }

    pub(super) fn call(&mut self, target: Target, member: &str, arguments: &[Value]) -> u32 {
        self.queue(target, member, arguments, true)
    }

    fn queue(&mut self, target: Target, member: &str, arguments: &[Value], answer: bool) -> u32 {
        self.serial += 1;
        self.output.extend_from_slice(&message::call(target, member, arguments, self.serial, answer));
        self.serial
    }

    /// The answer to a call. Everything that waits is sent before.
    pub(super) fn answer(&mut self, serial: u32) -> Result<Message, Trouble> {
        self.flush()?;
        loop {
            let message = self.next()?;
            match message.kind {
                SIGNAL if self.signals.len() < MOST_SIGNALS => self.signals.push(message),
                RETURN if message.answers == serial => return Ok(message),
                // An error to a call before is that of `Hello`: there will be no other answer.
                ERROR if message.answers == serial || (message.answers == 1 && !self.direct) => {
                    let words = message.texts().first().map(|words| (*words).to_owned()).unwrap_or_default();
                    let refused = Trouble::Refused(message.error, words);
                    return Err(match refused.refusal() {
                        "ServiceUnknown" | "NameHasNoOwner" => Trouble::Absent("does not know systemd".into()),
                        _ => refused,
                    });
                }
                _ => {}
            }
        }
    }

    /// The next signal that `wanted` says something of, from the sender of `answer`. Those that came while an answer was
    /// waited for are the first.
    pub(super) fn signal<T>(&mut self, answer: &Message, wanted: impl Fn(&Message) -> Option<T>) -> Result<T, Trouble> {
        // Anybody on a bus may send a signal to anybody.
        let judge = |message: &Message| {
            let told = message.kind == SIGNAL && message.sender == answer.sender;
            if told { wanted(message) } else { None }
        };
        if let Some(found) = self.signals.drain(..).find_map(|message| judge(&message)) {
            return Ok(found);
        }
        loop {
            if let Some(found) = judge(&self.next()?) {
                return Ok(found);
            }
        }
    }

    fn flush(&mut self) -> Result<(), Trouble> {
        if !self.authenticated {
            // Without a name of ours the other side takes the user that the kernel tells it: also where we are in a user
            // namespace and do not know ourselves by the same number.
            self.send(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
            while !self.authenticated {
                self.authenticate()?;
            }
        }
        let output = std::mem::take(&mut self.output);
        self.send(&output)
    }

    fn send(&self, mut rest: &[u8]) -> Result<(), Trouble> {
        while !rest.is_empty() {
            match socket::send_part(&self.socket, rest, None) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::EAGAIN) => return Err(Trouble::Silent),
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ENDED),
                Err(errno) => return Err(Trouble::System(errno)),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Message, Trouble> {
        loop {
            if let Some(head) = self.input.first_chunk::<HEAD>() {
                let length = message::length(head).ok_or(GARBAGE)?;
                if self.input.len() >= length {
                    let message = Message::read(&self.input[..length]).ok_or(GARBAGE)?;
                    self.input.drain(..length);
                    return Ok(message);
                }
            }
            self.fill()?;
        }
    }

    /// Reads one line of the other side's part of authentication (D-Bus Specification, "Authentication Protocol").
    fn authenticate(&mut self) -> Result<(), Trouble> {
        /// Longer lines are of something else.
        const LINE: usize = 1024;
        let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") else {
            if self.input.len() > LINE {
                return Err(GARBAGE);
            }
            return self.fill();
        };
        let line: Vec<u8> = self.input.drain(..end + 2).collect();
        match line.split(|byte| b" \r".contains(byte)).next().unwrap_or_default() {
            b"OK" => self.authenticated = true,
            b"DATA" => {}
            b"REJECTED" => return Err(Trouble::Broken("it does not let us in")),
            _ => return Err(GARBAGE),
        }
        Ok(())
    }

    /// Takes what has come, and waits for something where nothing has.
    fn fill(&mut self) -> Result<(), Trouble> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() || self.input.len() > LONGEST {
            return Err(Trouble::Silent);
        }
        let [ready] = event::wait([Some((self.socket.as_fd(), event::READABLE))], left).map_err(Trouble::System)?;
        if !ready {
            return Ok(());
        }
        let mut buffer = [0; 8192];
        match socket::receive(&self.socket, &mut buffer) {
            Ok((0, _)) | Err(Errno::ECONNRESET) => Err(ENDED),
            Ok((length, _)) => {
                self.input.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(errno) => Err(Trouble::System(errno)),
        }
    }
}

const ENDED: Trouble = Trouble::Broken("the connection was closed before an answer came");
const GARBAGE: Trouble = Trouble::Broken("what answers does not speak D-Bus");

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn variables<'a>(all: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| all.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
    }

    fn shown(all: &[Address]) -> Vec<(String, bool)> {
        let text = |place: &Place| match place {
            Place::Path(path) => path.clone(),
            Place::Abstract(name) => format!("@{name}"),
        };
        all.iter().map(|address| (text(&address.place), address.direct)).collect()
    }

    #[test]
    fn a_bus_comes_before_the_direct_socket() {
        let system = |all: &[(&str, &str)]| shown(&addresses(Manager::System, variables(all)));
        let usual = [("/run/dbus/system_bus_socket".to_owned(), false), ("/run/systemd/private".to_owned(), true)];
        assert_eq!(system(&[]), usual);
        let named = system(&[("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=x;unix:path=/a%20b,guid=1;unix:abstract=c")]);
        assert_eq!(named, [("/a b".to_owned(), false), ("@c".to_owned(), false)]);
        let user = |all: &[(&str, &str)]| shown(&addresses(Manager::User, variables(all)));
        let own = [("/r/bus".to_owned(), false), ("/r/systemd/private".to_owned(), true)];
        assert_eq!(user(&[("XDG_RUNTIME_DIR", "/r")]), own);
        assert_eq!(user(&[("XDG_RUNTIME_DIR", "/r"), ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/r/bus")]), own);
        let other = user(&[("XDG_RUNTIME_DIR", "/r"), ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/s")]);
        assert_eq!(other[0], ("/s".to_owned(), false));
        assert_eq!(other[1..], own);
    }

    /// What a call comes to where the other side says this and closes.
    fn against(said: &[u8]) -> Result<Message, Trouble> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(said).unwrap();
        let target = Target { destination: "d.d", path: "/", interface: "i.i" };
        let mut bus = Bus::over(ours.into(), true, Instant::now() + Duration::from_millis(200));
        let serial = bus.call(target, "M", &[]);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = bus.answer(serial);
        let mut sent = Vec::new();
        drop(bus);
        theirs.read_to_end(&mut sent).unwrap();
        assert!(sent.starts_with(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"), "{sent:?}");
        answer
    }

    #[test]
    fn whatever_the_other_side_does_ends_in_a_reason() {
        let answer = b"DATA\r\nOK 1234\r\nl\x02\x01\x01\0\0\0\0\x09\0\0\0\x08\0\0\0\x05\x01u\0\x01\0\0\0";
        assert_eq!(against(answer).unwrap().answers, 1);
        assert_eq!(against(b""), Err(ENDED));
        assert_eq!(against(b"DATA\r\nOK 12\r\n"), Err(ENDED));
        assert_eq!(against(&answer[..answer.len() - 1]), Err(ENDED));
        assert_eq!(against(b"HTTP/1.1 400 Bad Request\r\n\r\n"), Err(GARBAGE));
        assert_eq!(against(b"DATA\r\nOK 12\r\nHTTP/1.1 400 Bad"), Err(GARBAGE));
        assert_eq!(against(&[b'x'; 4000]), Err(GARBAGE));
        assert_eq!(against(b"REJECTED EXTERNAL\r\n"), Err(Trouble::Broken("it does not let us in")));
    }

    #[test]
    fn who_says_nothing_is_not_waited_for_without_end() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut bus = Bus::over(ours.into(), false, Instant::now() + Duration::from_millis(50));
        assert_eq!(bus.answer(1), Err(Trouble::Silent));
    }

    #[test]
    fn the_words_of_others_do_not_read_as_a_missing_command() {
        let text = |words: &str| Trouble::Refused("a.b.C".into(), words.into()).text();
        assert_eq!(text("Unit x is masked."), "Unit x is masked. (a.b.C)");
        assert_eq!(text("open: No such file or directory"), "a.b.C");
        assert_eq!(Trouble::Refused("org.freedesktop.systemd1.UnitExists".into(), "x".into()).refusal(), "UnitExists");
    }
}
