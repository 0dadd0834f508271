//! ReadmitVoter: a voter that has lost its copy of the metadata takes part with a new one.

use super::ApiContext;
use crate::engine::metadata::change::{Change, Decided};
use crate::model::{DirectoryId, ErrorCode, Refusal};
use crate::protocol::readmit_voter::{Request, Response};

pub async fn answer(context: &ApiContext, request: Request) -> Response {
    match readmit(context, &request).await {
        Ok(_) => Response {
            error_code: ErrorCode::None,
            error_message: None,
        },
        Err(refusal) => Response {
            error_code: refusal.code,
            error_message: refusal.into_message(),
        },
    }
}

async fn readmit(context: &ApiContext, request: &Request) -> Decided {
    let directory = request.directory.parse().map_err(|_| {
        let message = format!("A copy's id is a UUID, and not {:?}.", request.directory);
        Refusal::new(ErrorCode::InvalidRequest, message)
    })?;
    let quorum = context.controller.quorum().await?;
    if !quorum.voters.iter().any(|voter| voter.id == request.voter) {
        let message = format!("Node {} has no vote on the metadata.", request.voter);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    let change = Change::ReadmitVoter {
        voter: request.voter,
        directory: DirectoryId(directory),
    };
    context.controller.change_one(change).await
}
