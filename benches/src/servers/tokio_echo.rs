//! Echo as a tokio user writes it: one task per connection on the current-thread runtime.

use std::net::Ipv4Addr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{READ_SIZE, certificate};
use crate::options::Failure;
use crate::program;

pub(crate) fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        program::announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection's error ends that connection, as in the other servers.
            tokio::spawn(async move { drop(echo(stream).await) });
        }
    })
}

pub(crate) fn serve_tls() -> Result<(), Failure> {
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate::server_config()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        program::announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    drop(echo(stream).await);
                }
            });
        }
    })
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let count = stream.read(&mut buffer).await?;
        let Some(bytes @ [_, ..]) = buffer.get(..count) else { return Ok(()) };
        stream.write_all(bytes).await?;
        // Of TLS; a socket has nothing to flush.
        stream.flush().await?;
    }
}
