//! The way to a group's coordinator, which moves whenever another broker comes to lead the group's partition.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::admin::only;
use super::connection::Purpose;
use super::{Client, ClientError};
use crate::model::{BrokerId, ErrorCode};
use crate::protocol::find_coordinator::KEY_GROUP;
use crate::protocol::{find_coordinator, Api};

/// A coordinator that hasn't answered for so long may hang, with the group elsewhere by now: others are asked.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether to look for the coordinator again.
pub(super) fn has_moved(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotCoordinator
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
    )
}

/// The answer of a coordinator that means no.
pub(super) fn refused(group: &str, api: &'static str, code: ErrorCode) -> ClientError {
    ClientError::Refused {
        address: format!("the coordinator of group {group}"),
        api,
        code,
        message: String::new(),
    }
}

/// Asks the coordinator of one group, which is looked for when it isn't known.
#[derive(Debug)]
pub(super) struct Coordinator {
    client: Client,
    group: String,
    known: Mutex<Option<BrokerId>>,
}

impl Coordinator {
    pub(super) fn new(client: Client, group: &str) -> Coordinator {
        Coordinator {
            client,
            group: group.to_owned(),
            known: Mutex::new(None),
        }
    }

    pub(super) fn group(&self) -> &str {
        &self.group
    }

    /// Asks once. If there is no answer, or one whose `code` says that the group is elsewhere, the coordinator
    /// is looked for the next time. `extra` is what the request lets it wait.
    pub(super) async fn call<A: Api>(
        &self,
        request: &A::Request,
        extra: Duration,
        code: impl Fn(&A::Response) -> Option<ErrorCode>,
    ) -> Result<A::Response, ClientError> {
        let answer = self.ask::<A>(request, extra).await;
        let is_wrong = match &answer {
            Ok(response) => code(response).is_some_and(has_moved),
            Err(_) => true,
        };
        if is_wrong {
            self.know(None);
        }
        answer
    }

    async fn ask<A: Api>(
        &self,
        request: &A::Request,
        extra: Duration,
    ) -> Result<A::Response, ClientError> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let broker = match known {
            Some(broker) => broker,
            None => self.find().await?,
        };
        let connection = self.client.broker(broker, Purpose::Control).await?;
        let mut call = connection.begin::<A>(request, extra).await?;
        loop {
            if let Ok(answer) = timeout(LOOK_INTERVAL, call.answer()).await {
                return answer;
            }
            let found = timeout(LOOK_INTERVAL, self.find()).await;
            if matches!(found, Ok(Ok(found)) if found != broker) {
                let code = ErrorCode::NotCoordinator;
                return Err(refused(&self.group, A::KEY.name(), code));
            }
        }
    }

    fn know(&self, broker: Option<BrokerId>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = broker;
    }

    async fn find(&self) -> Result<BrokerId, ClientError> {
        let request = find_coordinator::Request {
            key_type: KEY_GROUP,
            coordinator_keys: vec![self.group.clone()],
            ..Default::default()
        };
        let response = self
            .client
            .call_any::<find_coordinator::Api>(&request)
            .await?;
        let found = only(response.coordinators, "FindCoordinator")?;
        match found.error_code {
            ErrorCode::None => {
                self.know(Some(found.node_id));
                Ok(found.node_id)
            }
            code => Err(ClientError::Refused {
                address: "the broker".into(),
                api: "FindCoordinator",
                code,
                message: found.error_message.unwrap_or_default(),
            }),
        }
    }
}
