//! Files that tests put there, and the calls on descriptors that are not about traffic.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tepal_driver::{Descriptor, Domain, FileStamp, Kind};

use crate::errno::{EINVAL, ENOENT, Outcome};
use crate::ports::UnixName;
use crate::socket::{Family, OpenFile, Options, Role, Socket, SocketId, Stream};
use crate::state::State;

#[derive(Debug)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) changed: SystemTime,
    // Raised with each file that is put anywhere.
    pub(crate) inode: u64,
}

impl State {
    pub(crate) fn wall(&self) -> SystemTime {
        self.wall_origin + self.now.since(tepal_base::Instant::ZERO)
    }

    pub(crate) fn put_file(&mut self, path: PathBuf, bytes: Vec<u8>) {
        let changed = self.wall();
        self.last_inode += 1;
        self.files.insert(path, File { bytes, changed, inode: self.last_inode });
    }

    pub(crate) fn rename_file(&mut self, from: &Path, to: &Path) {
        if let Some(file) = self.files.remove(from) {
            self.files.insert(to.to_owned(), file);
        }
    }

    pub(crate) fn read_file(&self, path: &Path, limit: usize) -> Outcome<Vec<u8>> {
        let bytes = &self.files.get(path).ok_or(ENOENT)?.bytes;
        Ok(bytes[..bytes.len().min(limit)].to_vec())
    }

    pub(crate) fn file_changed(&self, path: &Path) -> Outcome<FileStamp> {
        let file = self.files.get(path).ok_or(ENOENT)?;
        let (inode, len) = (file.inode, file.bytes.len() as u64);
        Ok(FileStamp { device: 1, inode, len, modified: file.changed, changed: file.changed })
    }

    /// A live socket goes on without its file, but nobody finds it any more.
    pub(crate) fn remove_file(&mut self, path: &Path) -> Outcome<()> {
        let name = UnixName::Path(path.to_owned());
        if self.unix_names.remove(&name).is_some() || self.files.remove(path).is_some() {
            Ok(())
        } else {
            Err(ENOENT)
        }
    }

    pub(crate) fn open_file(&mut self, driver: usize, path: &Path) -> Outcome<Descriptor> {
        self.check_room(driver, 1)?;
        if !self.files.contains_key(path) {
            return Err(ENOENT);
        }
        let mut socket = Socket::new(Family::File, false, self.default_options());
        socket.role = Role::File(OpenFile { path: path.to_owned(), position: 0 });
        let id = self.sockets.insert(socket);
        Ok(self.install(driver, id))
    }

    pub(crate) fn open(
        &mut self,
        driver: usize,
        domain: Domain,
        kind: Kind,
    ) -> Outcome<Descriptor> {
        let family = match (domain, kind) {
            (Domain::Inet | Domain::Inet6, Kind::Stream) => Family::Tcp,
            (Domain::Inet | Domain::Inet6, Kind::Datagram) => Family::Udp,
            (Domain::Unix, Kind::Stream) => Family::UnixStream,
            (Domain::Unix, Kind::Datagram) => Family::UnixDatagram,
            _ => return Err(EINVAL),
        };
        self.check_room(driver, 1)?;
        let socket = Socket::new(family, domain == Domain::Inet6, self.default_options());
        let id = self.sockets.insert(socket);
        Ok(self.install(driver, id))
    }

    pub(crate) fn pipe(&mut self, driver: usize) -> Outcome<(Descriptor, Descriptor)> {
        self.check_room(driver, 2)?;
        let mut options = self.default_options();
        options.send_buffer = self.config.pipe_buffer.max(crate::readiness::PIPE_ATOM);
        let reader = self.sockets.insert(Socket::new(Family::Pipe, false, options.clone()));
        let writer = self.sockets.insert(Socket::new(Family::Pipe, false, options));
        let ends = [(reader, writer, true), (writer, reader, false)];
        for (id, peer, reads) in ends {
            let stream = Stream { reads, writes: !reads, ..Stream::to(peer) };
            self.socket(id).role = Role::Stream(stream);
        }
        Ok((self.install(driver, reader), self.install(driver, writer)))
    }

    pub(crate) fn close(&mut self, driver: usize, descriptor: Descriptor) -> Outcome<()> {
        let id = self.find(driver, descriptor)?;
        self.driver(driver).descriptors.remove(crate::state::entry_key(descriptor));
        self.release(id);
        Ok(())
    }

    /// The socket's descriptor is gone.
    fn release(&mut self, id: SocketId) {
        let socket = self.socket(id);
        socket.owner = None;
        match socket.role {
            Role::Stream(_) => self.close_stream(id),
            Role::Listening(_) => self.close_listener(id),
            Role::Datagrams(_) => self.close_datagrams(id),
            Role::Idle | Role::Connecting(_) | Role::Failed | Role::File(_) => {
                self.timeline.forget_client(id);
                self.forget_name(id);
                self.sockets.remove(id);
            }
        }
    }

    fn default_options(&self) -> Options {
        Options {
            set: Vec::new(),
            send_buffer: self.config.send_buffer,
            receive_buffer: self.config.receive_buffer,
            reuse_address: false,
            reuse_port: false,
            only_v6: false,
            broadcast: false,
            linger_zero: false,
            groups: Default::default(),
            group_loop: true,
        }
    }
}
