truncate -s 128M /var/tmp/p1; zpool create p1 /var/tmp/p1; mkdir -p /p1/up /p1/wk /var/tmp/l /var/tmp/m; 
zfs snapshot p1@s; ls /p1/.zfs/snapshot/s; cat /proc/self/mountinfo | tail -3; exec 7< /p1/.zfs/snapshot/s; cat /proc/self/fdinfo/7;  stat -f /p1/.zfs/snapshot/s; umount /p1/.zfs/snapshot/s; exec 7<&-; zpool destroy -f p1; rm /var/tmp/p1
