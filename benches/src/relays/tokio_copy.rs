//! `copy_bidirectional` of tokio on the current-thread runtime.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};

use crate::options::Failure;
use crate::program;
use crate::servers::READ_SIZE;

pub(crate) fn serve(target: SocketAddr) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        program::announce(listener.local_addr()?);
        loop {
            let (near, _) = listener.accept().await?;
            // A connection's error ends that connection, as in the other relays.
            tokio::spawn(async move { drop(carry(near, target).await) });
        }
    })
}

async fn carry(mut near: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut near, &mut far, READ_SIZE, READ_SIZE).await?;
    Ok(())
}
