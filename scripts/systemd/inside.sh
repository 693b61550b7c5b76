# Run inside the container by check.service: install the unit as docs/device.md says, and look at what systemd does.
set -eu
until_true() { # until_true SECONDS WHAT COMMAND…
    left=$1 what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "FAILED: $what"; journalctl --no-pager -u hyperverify -n 30; exit 1; }
        sleep 1
    done
    echo "ok: $what"
}
said() { journalctl --no-pager -q -u hyperverify | grep -q "$1"; }
value() { systemctl show hyperverify -p "$1" --value; }

cat >/run/toolkit <<'END'
#!/bin/sh
LD_LIBRARY_PATH=/opt/python/lib PYTHONPATH=/opt/hyperverify:/opt/packages exec /opt/python/bin/python3 -m toolkit "$@"
END
chmod 755 /run/toolkit
echo 'u hyperverify - "a device"' | systemd-sysusers -
mkdir -p /etc/hyperverify /var/lib/hyperverify/bundles
cp -r /opt/out/bundle.hvb /var/lib/hyperverify/bundles/person.hvb
cp /opt/out/visit.avi /var/lib/hyperverify/
chown -R hyperverify: /var/lib/hyperverify
chmod 700 /var/lib/hyperverify
/run/toolkit init-device /etc/hyperverify/device.toml --unit /etc/systemd/system/hyperverify.service
sed -i "s|^ExecStart=.* run |ExecStart=/run/toolkit run |; s/^WatchdogSec=.*/WatchdogSec=12/" /etc/systemd/system/hyperverify.service
configure() { sed -i "s|^#* *source = .*|source = \"$1\"|" /etc/hyperverify/device.toml; }
configure 97
systemctl daemon-reload

systemctl start hyperverify || { journalctl --no-pager -u hyperverify -n 30; exit 1; } # returns once the process has said READY=1
echo "ok: started, as $(ps -o user= -p "$(value MainPID)")"
until_true 40 "a camera that is not there is told" said 'state=no-camera'
first=$(value MainPID)
sleep 20
[ "$(value MainPID)" = "$first" ] || { echo "FAILED: the watchdog of 12 s struck a living process"; exit 1; }
echo "ok: 20 s alive under a watchdog of 12 s"
systemctl reload hyperverify
until_true 40 "reloaded in place" said 'reloaded: 1 users'
[ "$(value MainPID)" = "$first" ] || { echo "FAILED: a reload must not restart"; exit 1; }
kill -STOP "$first"
until_true 60 "a process that hangs is ended by the watchdog" said 'Watchdog timeout'
other() { [ "$(value MainPID)" != "$first" ] && [ "$(value SubState)" = running ]; }
until_true 60 "and started anew" other
configure /var/lib/hyperverify/visit.avi
systemctl restart hyperverify
until_true 60 "the person on the video is accepted, with everything closed that the unit closes" said 'state=accepted'
systemctl stop hyperverify
[ "$(value Result)" = success ] || { echo "FAILED: it did not end in peace: $(value Result)"; exit 1; }
echo "ok: stopped"
systemd-analyze security --no-pager hyperverify | tail -1
echo "everything held"
