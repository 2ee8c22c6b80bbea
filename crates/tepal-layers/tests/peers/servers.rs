//! Foreign programs that take more than a line to start, for the tests of chains and of the loop.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::certificates::path;
use crate::programs::{Folder, Program, all_present, command, find, tell_absent};

pub(crate) fn has_ssh() -> bool {
    all_present(&["ssh", "sshd", "ssh-keygen", "unshare"])
}

/// A server with keys and a port of its own, and `ssh -D` to it, as the user who runs the tests.
pub(crate) fn ssh_dynamic(folder: &Folder) -> (Program, Program, SocketAddr) {
    let output = Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    for key in ["host", "user"] {
        let mut command = command("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f", &folder.file(key)]);
        assert!(command.status().unwrap().success());
    }
    let (server, at) = Program::serve(|port| {
        let conf = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             PermitRootLogin yes\n",
            folder.file("host"),
            folder.file("user.pub")
        );
        let conf = folder.write("sshd_config", conf);
        let sshd = find("sshd").expect("sshd was there a moment ago").display().to_string();
        let mut command = match rustix::process::geteuid().is_root() {
            // It wants a folder of the system's, which it finds in a namespace of its own.
            true => {
                let script = "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\"";
                let mut command = command("unshare");
                command.args(["-m", "sh", "-c", script, "sh", &sshd]);
                command
            }
            false => Command::new(sshd),
        };
        command.args(["-D", "-e", "-f", &conf]);
        command
    });
    let (dynamic, address) = Program::serve(|port| {
        let mut command = command("ssh");
        command.args([
            "-N",
            "-F",
            "none",
            "-i",
            &folder.file("user"),
            "-p",
            &at.port().to_string(),
        ]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            "IdentityAgent=none",
            "ConnectTimeout=10",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-D", &format!("127.0.0.1:{port}"), &format!("{user}@127.0.0.1")]);
        command
    });
    (server, dynamic, address)
}

const SQUID_HELPER: &str = "/usr/lib/squid/basic_ncsa_auth";

pub(crate) fn has_squid() -> bool {
    if !all_present(&["squid", "openssl"]) {
        return false;
    }
    let there = Path::new(SQUID_HELPER).is_file();
    if !there {
        tell_absent("squid's basic_ncsa_auth");
    }
    there
}

/// A squid that lets "me" with the password "secret" reach 127.0.0.2, and nobody 127.0.0.3.
pub(crate) fn squid(folder: &Folder) -> (Program, SocketAddr) {
    squid_named(folder, &format!("tepal{}", std::process::id()))
}

/// The same with a service's name: its shared memory is named by it, and must be no other squid's.
pub(crate) fn squid_named(folder: &Folder, service: &str) -> (Program, SocketAddr) {
    let output = command("openssl").args(["passwd", "-apr1", "secret"]).output().unwrap();
    let line = format!("me:{}", String::from_utf8(output.stdout).unwrap());
    let passwords = folder.write("passwords", line);
    Program::serve(|port| {
        let conf = format!(
            "http_port 127.0.0.1:{port}\npid_filename {}\ncache_log /dev/null\naccess_log none\n\
             cache deny all\ncache_mem 8 MB\nvisible_hostname localhost\nshutdown_lifetime 0 seconds\n\
             coredump_dir none\npinger_enable off\nmax_filedescriptors 1024\n\
             auth_param basic program {SQUID_HELPER} {passwords}\nauth_param basic children 1 startup=1\n\
             acl users proxy_auth REQUIRED\nacl strict url_regex -i private\n\
             acl secret dst 127.0.0.2\nhttp_access allow secret users\n\
             http_access deny secret\nacl closed dst 127.0.0.3\nhttp_access deny closed\n\
             http_access allow all\n",
            folder.file("pid")
        );
        let mut command = command("squid");
        command.args(["-N", "-n", service, "-d", "1", "-f", &folder.write("conf", conf)]);
        command
    })
}

/// One service between its own port and one of ours.
pub(crate) fn stunnel(folder: &Folder, to: u16, settings: &str) -> (Program, SocketAddr) {
    Program::serve(|port| {
        let conf = format!(
            "foreground = yes\npid =\nsyslog = no\ndebug = notice\n[it]\n\
             accept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{to}\nTIMEOUTclose = 1\n{settings}"
        );
        let mut command = command("stunnel");
        command.arg(folder.write("stunnel.conf", conf));
        command
    })
}

pub(crate) fn stunnel_as_server(version: &str) -> String {
    let (cert, key) = (path("server.pem"), path("server.key"));
    format!("cert = {cert}\nkey = {key}\nsslVersion = {version}\n")
}

/// Python with aiosmtpd, in an environment under the target folder that is made once.
fn python_with_aiosmtpd() -> Option<PathBuf> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("aiosmtpd-1.4.6");
    let python = home.join("bin/python");
    let works = || {
        let found = Command::new(&python).args(["-c", "import aiosmtpd"]).output();
        found.is_ok_and(|output| output.status.success())
    };
    // Another test's process may be making it too.
    let lock = File::create(home.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    if !works() {
        let made = command("python3").args(["-m", "venv"]).arg(&home).output().unwrap();
        let install = ["-m", "pip", "install", "-q", "--timeout", "10", "--retries", "1"];
        if made.status.success() {
            // Whether it worked is asked below.
            let _output = Command::new(&python).args(install).arg("aiosmtpd==1.4.6").output();
        }
    }
    works().then_some(python)
}

/// A mail server with STARTTLS; `None` if there is none here, which is told.
pub(crate) fn aiosmtpd() -> Option<(Program, SocketAddr)> {
    if !all_present(&["python3"]) {
        return None;
    }
    let Some(python) = python_with_aiosmtpd() else {
        tell_absent("aiosmtpd (PyPI)");
        return None;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../tepal-layers/tests/peers/smtp_server.py");
    let files = [path("server.pem"), path("server.key")];
    let program = Program::start(Command::new(python).arg(script).args(files));
    let address = program.wait_for_port("port ");
    Some((program, address))
}

const MAILER: &str = r#"
import smtplib, ssl, sys
with smtplib.SMTP("localhost", int(sys.argv[1]), timeout=15) as smtp:
    smtp.starttls(context=ssl.create_default_context(cafile=sys.argv[2]))
    smtp.sendmail("a@here.test", ["b@there.test"], "Subject: x\r\n\r\nhello\r\n")
print("sent", flush=True)
"#;

/// A client that sends us one mail behind STARTTLS and prints "sent".
pub(crate) fn smtplib(port: u16) -> Program {
    let mut command = command("python3");
    command.args(["-c", MAILER, &port.to_string(), &path("ca.pem")]);
    Program::start(&mut command)
}

/// nginx: one process with one server block, which is told its port.
pub(crate) fn nginx(folder: &Folder, block: impl Fn(u16) -> String) -> (Program, SocketAddr) {
    Program::serve(|port| {
        let own = folder.path().display();
        let conf = format!(
            "daemon off; master_process off; pid {own}/pid; error_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {own}/a; proxy_temp_path {own}/b;\n\
             fastcgi_temp_path {own}/c; uwsgi_temp_path {own}/d; scgi_temp_path {own}/e;\n\
             ssl_certificate {}; ssl_certificate_key {};\nserver {{\n{}\n}}\n}}\n",
            path("server.pem"),
            path("server.key"),
            block(port)
        );
        let conf = folder.write("nginx.conf", conf);
        let mut command = command("nginx");
        command.args(["-e", "stderr", "-p", &folder.file(""), "-c", &conf]);
        command
    })
}
