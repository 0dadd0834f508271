//! What can befall a member of a group, while something else befalls the nodes.

use std::time::Duration;

use tokio::time::sleep;

use crate::groups::Groups;
use crate::member::SESSION;
use crate::seed::Seed;

/// How long it lasts beyond what befalls the nodes: sometimes so long that its session ends.
const LASTS_ON_MAX: Duration = Duration::from_millis(2 * SESSION.as_millis() as u64);

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// kill -9, and another one in its place.
    Killed,
    /// SIGSTOP, and SIGCONT.
    Hangs,
    /// It leaves in good order, and another one comes.
    Leaves,
}

#[derive(Clone, Copy, Debug)]
pub struct Mishap {
    kind: Kind,
    member: usize,
    lasts_on: Duration,
}

impl Mishap {
    /// Every other time there is none.
    pub fn draw(seed: &mut Seed) -> Option<Mishap> {
        let kind = match seed.below(6) {
            0 => Kind::Killed,
            1 => Kind::Hangs,
            2 => Kind::Leaves,
            _ => return None,
        };
        Some(Mishap {
            kind,
            member: seed.below(Groups::MEMBERS as u64) as usize,
            lasts_on: Duration::from_millis(seed.below(LASTS_ON_MAX.as_millis() as u64)),
        })
    }

    pub fn tell(&self, groups: &Groups) -> String {
        let Mishap { kind, lasts_on, .. } = self;
        let name = groups.name(self.member);
        format!("meanwhile: {name} {kind:?}, {lasts_on:?} longer")
    }

    pub fn begin(&self, groups: &mut Groups) {
        match self.kind {
            Kind::Killed => groups.kill(self.member),
            Kind::Hangs => groups.stop(self.member),
            Kind::Leaves => groups.leave(self.member),
        }
    }

    pub async fn end(&self, groups: &mut Groups) {
        sleep(self.lasts_on).await;
        match self.kind {
            Kind::Killed | Kind::Leaves => groups.begin(self.member),
            Kind::Hangs => groups.go_on(self.member),
        }
    }
}
