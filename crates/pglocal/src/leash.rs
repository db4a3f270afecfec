//! Ties a server to the life of our process: a small shell that waits for us to be gone, then stops the server.
//!
//! kill -9 gives us no chance to do it ourselves, and the kernel's parent-death signal follows the thread that spawned,
//! which may end long before the process.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::error::Error;
use crate::folder::Folder;

const SCRIPT: &str = include_str!("leash.sh");

#[derive(Debug)]
pub(crate) struct Leash {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Leash {
    pub(crate) fn tie(folder: &Folder) -> Result<Self, Error> {
        let socket_dir = Some(&folder.socket_dir).filter(|socket_dir| **socket_dir != folder.data_dir);
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "waldelta-leash"])
            .arg(&folder.data_dir)
            .arg(folder.ephemeral.as_deref().map_or("".as_ref(), |path| path.as_os_str()))
            .arg(socket_dir.map_or("".as_ref(), |path| path.as_os_str()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Ctrl-C in the terminal must not end it before the server.
            .process_group(0)
            .spawn()
            .map_err(failed("run"))?;
        let pipe = shell.stdin.take();
        Ok(Leash { shell, pipe })
    }

    /// Says which server to stop; `None` while there is none.
    pub(crate) fn hold(&mut self, pid: Option<u32>) -> Result<(), Error> {
        match &mut self.pipe {
            Some(pipe) => writeln!(pipe, "{}", pid.unwrap_or(0)).map_err(failed("write to")),
            None => Ok(()),
        }
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        // In this order: once the pipe is closed, the shell acts. There is nobody to tell if it is gone already.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
        self.pipe = None;
    }
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Process { action, program: "/bin/sh".into(), source }
}
