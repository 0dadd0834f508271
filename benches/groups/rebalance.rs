//! A large group that loses a member.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;

use crate::members::{Board, Member, GROUP, ROLE, SESSION, TOPIC};
use crate::nodes::Cluster;
use crate::summary;

pub const MEMBERS: usize = 100;
pub const PARTITIONS: usize = 600;

pub async fn measure(leaves: usize, kills: usize) {
    let cluster = Cluster::start();
    let client = cluster.client().await;
    cluster.create_with(&client, TOPIC, PARTITIONS as i32).await;
    let (bootstrap, board) = (cluster.bootstrap(), Board::default());
    let begun = Instant::now();
    let mut members = Vec::new();
    for number in 0..MEMBERS {
        members.push(Member::start(&bootstrap, number, &board).await);
    }
    await_even(&board, MEMBERS).await;
    let took = begun.elapsed().as_millis();
    println!("| {MEMBERS} members share {PARTITIONS} partitions after they were started one by one | {took} ms |");

    let mut times = Vec::new();
    for round in 0..leaves {
        let leaving = members.swap_remove(round % members.len());
        let begun = leaving.leave().await;
        await_all(&board).await;
        times.push(begun.elapsed());
        let number = MEMBERS + round;
        members.push(Member::start(&bootstrap, number, &board).await);
        await_even(&board, MEMBERS).await;
    }
    if leaves > 0 {
        println!(
            "| one of {MEMBERS} members leaves: until others have all of {PARTITIONS} partitions, classic and cooperative | {} |",
            summary(times)
        );
    }

    let mut times = Vec::new();
    for _ in 0..kills {
        members.pop().expect("there are many").leave().await;
        await_all(&board).await;
        let program = std::env::current_exe().unwrap();
        let mut alone = Command::new(program);
        let alone = alone.args([ROLE, &bootstrap]).stdout(Stdio::piped());
        let mut alone = alone.spawn().unwrap();
        let mut said = BufReader::new(alone.stdout.take().unwrap()).lines();
        // Others have given its share up before it has it.
        let share = (PARTITIONS / MEMBERS).to_string();
        let listening = spawn_blocking(move || {
            let has_its_share = said.any(|count| count.unwrap() == share);
            (has_its_share, said)
        });
        // It is listened to until it is killed.
        let (has_its_share, _said) = listening.await.unwrap();
        assert!(has_its_share);
        await_even(&board, members.len()).await;
        let begun = Instant::now();
        alone.kill().unwrap();
        alone.wait().unwrap();
        await_all(&board).await;
        times.push(begun.elapsed());
        let number = 2 * MEMBERS + times.len();
        members.push(Member::start(&bootstrap, number, &board).await);
        await_even(&board, MEMBERS).await;
    }
    if kills > 0 {
        println!(
            "| a member's process is killed, its session is {} s: until others have its partitions | {} |",
            SESSION.as_secs(),
            summary(times)
        );
    }
    let described = client.admin().describe_group(GROUP).await.unwrap();
    assert_eq!(described.members.len(), MEMBERS);
    // All at once, and nobody waits for the end of a session.
    let leaving = members
        .into_iter()
        .map(|member| tokio::spawn(member.leave()));
    for left in leaving.collect::<Vec<_>>() {
        tokio::time::timeout(Duration::from_secs(60), left)
            .await
            .unwrap()
            .unwrap();
    }
}

/// Until so many members here have the same share of the partitions each.
async fn await_even(board: &Board, members: usize) {
    let share = PARTITIONS / MEMBERS;
    board
        .wait_until("they share evenly", |counts, _| {
            counts.len() == members && counts.iter().all(|count| *count == share)
        })
        .await;
}

/// Until the members here have all partitions.
async fn await_all(board: &Board) {
    board
        .wait_until("they have all", |_, all| all == PARTITIONS)
        .await;
}
