// A peer that speaks TLS by Node's tls module and ends as it is told: tls_peer.py in another tongue.
//
//   tls_peer.js server VERSION CERT KEY CA    prints its ports: one for all, one that wants a certificate
//   tls_peer.js client VERSION PORT CA ENDING...
'use strict';
const fs = require('fs');
const net = require('net');
const tls = require('tls');

function end(socket, ending, rest) {
  const data = (heard) => { socket.on('data', heard); if (rest.length) heard(rest); };
  switch (ending) {
    case 'bye': // close_notify, and then the peer's
      socket.resume();
      socket.end();
      break;
    case 'wait': // the peer is first
      socket.resume();
      socket.on('end', () => socket.end());
      break;
    case 'half': // the peer has only ended its writing
      socket.resume();
      socket.on('end', () => socket.end(Buffer.from('rest'.repeat(10000))));
      break;
    case 'cut': // the bytes end without a word: the handle below TLS is closed
      socket.destroy();
      break;
    case 'silent': // the peer's close_notify is not answered; it has given up long before this ends
      socket.resume();
      socket.on('end', () => setTimeout(() => socket.destroy(), 1000));
      break;
    case 'reset':
      (socket._parent || socket).resetAndDestroy();
      break;
    case 'echo':
      data((block) => socket.write(block));
      socket.on('end', () => socket.end());
      break;
    default:
      throw new Error(ending);
  }
}

function converse(socket, then) {
  let line = Buffer.alloc(0);
  const heard = (block) => {
    line = Buffer.concat([line, block]);
    const at = line.indexOf(10);
    if (at < 0) return;
    socket.removeListener('data', heard);
    then(line.subarray(0, at).toString(), line.subarray(at + 1));
  };
  socket.on('data', heard);
}

function report(socket, name) {
  socket.setNoDelay(true); // else a reset can throw away what Nagle still holds
  let error = null;
  socket.on('error', (each) => { error = each; });
  socket.on('close', () => console.log(error ? `error ${name()} ${error.code}` : `done ${name()}`));
}

const [role, version, ...others] = process.argv.slice(2);
const versions = { minVersion: version, maxVersion: version };
if (role === 'server') {
  const [cert, key, ca] = others.map((name) => fs.readFileSync(name));
  const ports = [];
  for (const requestCert of [false, true]) {
    const settings = { ...versions, cert, key, ca, requestCert, rejectUnauthorized: requestCert, allowHalfOpen: true };
    const server = tls.createServer(settings, (socket) => {
      let ending = 'unknown';
      report(socket, () => ending);
      converse(socket, (line, rest) => { ending = line; socket.write('ok\n'); end(socket, ending, rest); });
    });
    server.on('tlsClientError', () => {});
    server.listen(0, '127.0.0.1', () => {
      ports[+requestCert] = server.address().port;
      if (ports[0] && ports[1]) console.log('ports', ...ports, '');
    });
  }
} else {
  const [port, ca, ...endings] = others;
  const next = () => {
    const ending = endings.shift();
    if (!ending) return;
    const raw = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const settings = { ...versions, socket: raw, servername: 'localhost', allowHalfOpen: true };
    if (ending !== 'distrust') settings.ca = fs.readFileSync(ca);
    const socket = tls.connect(settings, () => {
      socket.write(ending + '\n');
      converse(socket, (_, rest) => end(socket, ending, rest));
    });
    report(socket, () => ending);
    socket.on('close', next);
  };
  next();
}
