//! An address that can be turned to another server, as a name or a virtual address is when a standby takes over.
//!
//! It works on threads of its own, so that it goes on while a test waits for a program.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What one direction of a connection reads at once.
const BUFFER_BYTES: usize = 64 << 10;

/// A port that leads to a server. Dropping it closes what goes through it.
#[derive(Debug)]
pub struct Route {
    port: u16,
    leads: Arc<Mutex<Leads>>,
    gate: Arc<Gate>,
}

/// What goes through waits here while the route is held.
#[derive(Debug, Default)]
struct Gate {
    is_held: Mutex<bool>,
    released: Condvar,
}

impl Gate {
    fn set(&self, is_held: bool) {
        *self.is_held.lock().unwrap_or_else(PoisonError::into_inner) = is_held;
        self.released.notify_all();
    }

    fn wait(&self) {
        let held = self.is_held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.released.wait_while(held, |held| *held));
    }
}

#[derive(Debug)]
struct Leads {
    /// `None`: nowhere; who connects is let go.
    to: Option<u16>,
    /// Both ends of each connection that goes through.
    open: Vec<TcpStream>,
    ended: bool,
}

impl Route {
    /// A new address that leads to this port.
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let leads = Leads { to: Some(port), open: Vec::new(), ended: false };
        let (port, leads) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(leads)));
        let route = Route { port, leads, gate: Arc::default() };
        let (leads, gate) = (route.leads.clone(), route.gate.clone());
        std::thread::spawn(move || accept(&listener, &leads, &gate));
        route
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Leads to another port from now on. What goes through is cut.
    pub fn turn_to(&self, port: u16) {
        self.cut(Some(port));
    }

    /// Leads nowhere from now on. What goes through is cut.
    pub fn close(&self) {
        self.cut(None);
    }

    /// Nothing goes through from now on, although connections stay open and new ones are taken: as if packets were lost.
    pub fn hold(&self) {
        self.gate.set(true);
    }

    /// What was held goes on.
    pub fn release(&self) {
        self.gate.set(false);
    }

    fn cut(&self, to: Option<u16>) {
        let mut leads = locked(&self.leads);
        leads.to = to;
        for stream in leads.open.drain(..) {
            // One of the two ends may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.cut(None);
        self.release();
        locked(&self.leads).ended = true;
        // Wakes the thread that accepts, which then sees the end.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn locked(leads: &Mutex<Leads>) -> MutexGuard<'_, Leads> {
    leads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, leads: &Mutex<Leads>, gate: &Arc<Gate>) {
    for client in listener.incoming() {
        // Held while connecting, so that nothing goes to where the route has led before.
        let mut leads = locked(leads);
        if leads.ended {
            return;
        }
        if let (Ok(client), Some(port)) = (client, leads.to) {
            let passed =
                TcpStream::connect(("127.0.0.1", port)).and_then(|server| pass(client, server, gate));
            // Where nobody listens, the client is let go.
            if let Ok(ends) = passed {
                leads.open.extend(ends);
            }
        }
    }
}

/// Copies both ways until one of them ends, then ends the other.
fn pass(client: TcpStream, server: TcpStream, gate: &Arc<Gate>) -> io::Result<[TcpStream; 2]> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ends = [client.try_clone()?, server.try_clone()?];
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        let gate = gate.clone();
        std::thread::spawn(move || {
            // However it ended, it has ended for both.
            let _ = copy(&from, &to, &gate);
            for stream in [&from, &to] {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
    Ok(ends)
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, gate: &Gate) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer)?;
        gate.wait();
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read])?;
    }
}
