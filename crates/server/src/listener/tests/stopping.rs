//! What a stop waits for, and what it does not.

use super::*;

#[tokio::test]
async fn a_stop_waits_for_answers_that_are_under_way_and_for_nobody_else() {
    let mut world = World::new(FOR_EVER);
    let mut held = world.connect().await;
    held.write_all(b"GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut held, "begun, ").await;
    let mut idle = world.connect().await;
    idle.write_all(b"GET /said/it HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut idle, "it").await;
    let mut silent = world.connect().await;
    let mut half = world.connect().await;
    half.write_all(b"GET /peer HTTP/1.1\r\nHo").await.unwrap();
    let mut upgraded = echoing(world.connect().await).await;
    world.stop.cancel();
    for socket in [&mut idle, &mut silent, &mut half] {
        assert_eq!(until_closed(socket).await, "");
    }
    assert!(TcpStream::connect(world.address).await.is_err(), "nobody is there any more");
    assert!(world.tasks.try_join_next().is_none(), "one answer is under way");
    world.asked.released.add_permits(1);
    assert!(until_closed(&mut held).await.contains("the end"), "it ends as it should");
    world.stopped().await;
    echoes(&mut upgraded, "a WebSocket is let go by its session").await;
}

#[tokio::test]
async fn who_takes_over_a_socket_counts_on() {
    let one = Bounds { all: 10, per_address: 2 };
    let serving = Serving::new(Gate::new("test", one), None, Proxies::new(Vec::new()), FOR_EVER);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false, serving.clone()).unwrap();
    let (address, opened, stop) =
        (listener.address().unwrap(), CancellationToken::new(), CancellationToken::new());
    let app = |name: &'static str| Router::new().route("/", get(move || async move { name }));
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.share().unwrap().serve_until(app("first"), opened.clone(), stop.clone()));
    let mut before = TcpStream::connect(address).await.unwrap();
    before.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut before, "first").await;
    opened.cancel();
    tasks.spawn(listener.serve(app("second"), stop.clone()));
    // On the connection that was there, the first goes on for a moment.
    assert_eq!(serving.gate.open(), (1, 1));
    let ask = async || {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        until_closed(&mut socket).await
    };
    waldelta_testkit::wait_until("the second answers", DEADLINE, async || ask().await.ends_with("second"))
        .await;
    assert_eq!(until_closed(&mut before).await, "", "not for ever");
    waldelta_testkit::wait_until("its place is free", DEADLINE, async || serving.gate.open().0 == 0).await;
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().unwrap();
    }
}

/// An endless answer ends although the client keeps its connection.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let patience = Patience { stalled: SHORT, ..FOR_EVER };
    let serving = Serving::new(Gate::new("test", MANY), None, Proxies::new(Vec::new()), patience);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), false, serving).unwrap();
    let address = listener.address().unwrap();
    let begun = Arc::new(Semaphore::new(0));
    let handler = begun.clone();
    let endless = move || {
        handler.add_permits(1);
        let pieces = std::iter::repeat_with(|| Ok::<_, std::convert::Infallible>(vec![b'x'; 1 << 16]));
        std::future::ready(axum::body::Body::from_stream(futures_util::stream::iter(pieces)).into_response())
    };
    let app = Router::new().route("/", get(endless));
    let stop = CancellationToken::new();
    let serving = listener.serve(app, stop.clone());
    let client = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        begun.acquire().await.unwrap().forget();
        // A stop waits for every answer.
        stop.cancel();
        tokio::time::sleep(DEADLINE).await;
        drop(socket);
    };
    tokio::select! {
        served = serving => served.unwrap(),
        () = client => panic!("the answer waits for its client"),
    }
}
