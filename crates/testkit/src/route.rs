//! An address that can be turned to another server, as a name or a virtual address is when a standby takes over.
//!
//! It works on threads of its own, so that it goes on while a test waits for a program.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A port that leads to a server. Dropping it closes what goes through it.
#[derive(Debug)]
pub struct Route {
    port: u16,
    leads: Arc<Mutex<Leads>>,
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
        let route = Route { port: listener.local_addr().unwrap().port(), leads: Arc::new(Mutex::new(leads)) };
        let leads = route.leads.clone();
        std::thread::spawn(move || accept(&listener, &leads));
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
        locked(&self.leads).ended = true;
        // Wakes the thread that accepts, which then sees the end.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn locked(leads: &Mutex<Leads>) -> MutexGuard<'_, Leads> {
    leads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, leads: &Arc<Mutex<Leads>>) {
    for client in listener.incoming() {
        // Held while connecting, so that nothing goes to where the route has led before.
        let mut leads = locked(leads);
        if leads.ended {
            return;
        }
        if let (Ok(client), Some(port)) = (client, leads.to) {
            let passed = TcpStream::connect(("127.0.0.1", port)).and_then(|server| pass(client, server));
            // Where nobody listens, the client is let go.
            if let Ok(ends) = passed {
                leads.open.extend(ends);
            }
        }
    }
}

/// Copies both ways until one of them ends, then ends the other.
fn pass(client: TcpStream, server: TcpStream) -> io::Result<[TcpStream; 2]> {
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ends = [client.try_clone()?, server.try_clone()?];
    for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        std::thread::spawn(move || {
            let (mut reader, mut writer) = (&from, &to);
            // However it ended, it has ended for both.
            let _ = io::copy(&mut reader, &mut writer);
            for stream in [&from, &to] {
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
    }
    Ok(ends)
}
