//! Parts that are sent at the same moment go in one call of the script, each with its own notice.
//!
//! A call costs Redis some ten microseconds by itself, the look at the newest notice most of all, and its parts share that. Nobody waits for
//! more of them to come: a call takes what is asked in the same turn of the loop, and leaves.
//!
//! The call is a future that all who take part in it share, and whoever is still there drives it. So no delivery depends on the life of
//! another; the part of one that is dropped is done with the others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, join_all};
use tokio::task::yield_now;
use unstale_connect::{Client, Fault, FaultKind};

use crate::request::{Answer, Log, Request};

/// The most targets that the parts of a call have, unless it is one part: Lua can't unpack many thousands, and nothing else is done meanwhile.
pub(crate) const MOST_TARGETS: usize = 1000;
/// The most parts of a call: each costs as much as some ten keys.
const MOST_PARTS: usize = 16;

/// The answer to each part, in their order.
type Answered = Arc<[Result<Answer, Fault>]>;

/// The calls over one connection.
#[derive(Debug)]
pub(crate) struct Calls {
    client: Client,
    log: Arc<Log>,
    forming: Mutex<Option<Call>>,
}

/// A call that was begun last.
#[derive(Debug, Clone)]
struct Call {
    requests: Arc<Mutex<Gathered>>,
    answers: Shared<BoxFuture<'static, Answered>>,
}

/// What a call is made for, until it is made.
#[derive(Debug, Default)]
struct Gathered {
    requests: Vec<Request>,
    is_made: bool,
}

impl Calls {
    pub(crate) fn new(client: Client, log: Arc<Log>) -> Self {
        Self { client, log, forming: Mutex::default() }
    }

    /// Has this done, with what else is asked at this moment.
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, Fault> {
        let (call, place) = self.join(request);
        // The call is made when it is waited for: after all that is asked in this turn.
        yield_now().await;
        call.answers.await[place].clone()
    }

    /// The call that this goes with, and its place in it.
    fn join(&self, request: Request) -> (Call, usize) {
        let mut forming = lock(&self.forming);
        let call = forming.take().filter(|call| lock(&call.requests).has_room(&request)).unwrap_or_else(|| self.begin());
        let place = lock(&call.requests).add(request);
        (forming.insert(call).clone(), place)
    }

    fn begin(&self) -> Call {
        let (client, log, requests) = (self.client.clone(), Arc::clone(&self.log), Arc::<Mutex<Gathered>>::default());
        let gathered = Arc::clone(&requests);
        let answers = async move {
            let requests = lock(&gathered).make();
            made(&log, &client, &requests).await.into()
        };
        Call { requests, answers: answers.boxed().shared() }
    }
}

impl Gathered {
    fn has_room(&self, request: &Request) -> bool {
        let targets: usize = self.requests.iter().map(|request| request.targets).sum();
        !self.is_made && self.requests.len() < MOST_PARTS && targets + request.targets <= MOST_TARGETS
    }

    /// Adds a part, and tells its place.
    fn add(&mut self, request: Request) -> usize {
        self.requests.push(request);
        self.requests.len() - 1
    }

    /// All of them; from here on nothing joins.
    fn make(&mut self) -> Vec<Request> {
        self.is_made = true;
        std::mem::take(&mut self.requests)
    }
}

/// What became of each of these. What the server refuses together it is asked one by one, for what concerns one must not keep the others.
async fn made(log: &Log, client: &Client, requests: &[Request]) -> Vec<Result<Answer, Fault>> {
    match log.call(client, requests).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(fault) if requests.len() > 1 && was_refused(&fault) => {
            join_all(requests.iter().map(|request| alone(log, client, request))).await
        }
        Err(fault) => requests.iter().map(|_| Err(fault.clone())).collect(),
    }
}

async fn alone(log: &Log, client: &Client, request: &Request) -> Result<Answer, Fault> {
    let mut answers = log.call(client, std::slice::from_ref(request)).await?;
    answers.pop().ok_or_else(|| Fault::new(FaultKind::Protocol, "the script answered nothing"))
}

/// Whether the server answered, rather than nobody.
fn was_refused(fault: &Fault) -> bool {
    !matches!(fault.kind, FaultKind::Unreachable | FaultKind::Timeout)
}

/// Nothing is left half done while it is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
