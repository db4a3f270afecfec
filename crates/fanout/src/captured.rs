//! Which tables there are: those that the source publishes now, and those that history has changes of. A client that follows
//! whatever there is may have rows of any of them.

use std::sync::Arc;
use std::time::Duration;

use waldelta_wal::{Code, chain_text};

use crate::databases::{Log, Origin};
use crate::error::Error;
use crate::question::Question;
use crate::shapes::Shapes;

/// A source that does not answer for so long is out of reach.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Where that is asked: once for all who ask meanwhile.
pub(crate) struct Captured {
    tables: Question<Result<Arc<Shapes>, Code>>,
}

impl Captured {
    pub(crate) fn new() -> Self {
        Captured { tables: Question::new() }
    }

    /// All of them, with the shapes that they have and had.
    ///
    /// # Errors
    /// With the code of why it cannot be known for now.
    pub(crate) async fn tables(&self, log: &dyn Log, origin: &dyn Origin) -> Result<Arc<Shapes>, Code> {
        let look = async {
            match tokio::time::timeout(ANSWER_TIMEOUT, look(log, origin)).await {
                Ok(Ok(tables)) => Ok(Arc::new(tables)),
                Ok(Err(error)) => {
                    let code = error.code();
                    tracing::warn!(
                        code = code.as_str(),
                        error = chain_text(&error),
                        "ask which tables there are"
                    );
                    Err(code)
                }
                Err(_elapsed) => Err(Code::SourceUnreachable),
            }
        };
        self.tables.ask(look).await
    }
}

async fn look(log: &dyn Log, origin: &dyn Origin) -> Result<Shapes, Error> {
    let known = log.tables().await?.iter().map(|table| table.name.clone()).collect();
    let known = log.tables_of_names(&known).await?;
    let published = origin.published_tables().await?;
    let published = published.into_iter().map(|published| Arc::new(published.table));
    Ok(known.into_iter().chain(published).collect())
}
