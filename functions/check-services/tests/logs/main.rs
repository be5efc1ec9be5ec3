//! Every path of a tick leaves its line, and no line holds a secret. A test binary with one test, as in add-service.
#![expect(clippy::unwrap_used, reason = "a step of a test that fails is the test's failure")]

use std::collections::HashMap;
use std::sync::Arc;

use aws::store::Store;
use aws_sdk_dynamodb::types::AttributeValue;
use check_services::event::{Event, Shard};
use check_services::key_cache::KeyCache;
use data_encoding::BASE64URL_NOPAD;
use domain::check::{Check, Observation};
use domain::clock::Clock as _;
use domain::snapshot::FailureStreak;
use domain::target_url::TargetPolicy;
use jiff::{SignedDuration, Timestamp};
use probe::{Attempt, HttpProbe, Limits, Probe, TenantQuota};
use serde_json::{Value, json};
use testing::faults::{Fault, Faults};
use testing::forge_app::{self, ACCEPTED, ForgeApp, Reply};
use testing::log::Log;
use testing::target::{self, Target};
use tokio::sync::Notify;

#[path = "../it/world.rs"]
#[expect(dead_code, reason = "shared with the other tests")]
mod world;

use world::World;

#[tokio::test]
async fn every_path_is_logged_and_no_secret_is() {
    let mut log = Log::collect();
    Box::pin(answers_of_the_app(&mut log)).await;
    Box::pin(what_cannot_be_told(&mut log)).await;
    Box::pin(records_that_are_not_what_they_should_be(&mut log)).await;
    Box::pin(a_tick_that_another_invocation_has(&mut log)).await;
    Box::pin(suspension(&mut log)).await;
    Box::pin(suppressed_verdicts(&mut log)).await;
    Box::pin(out_of_time(&mut log)).await;
    Box::pin(a_key_that_follows(&mut log)).await;
}

fn line(level: &str, message: &str) -> Value {
    json!({ "level": level, "message": message })
}

async fn secret_world() -> World {
    let world = World::start().await;
    world.add(&world.app, "secret-path?token=secret-query").await;
    world
}

/// Nothing so far holds what this world keeps to itself.
async fn assert_discreet(log: &Log, world: &World) {
    let wrapped = world.watched(&world.app).await.unwrap().tenant.web_trigger().key.wrapped.clone();
    log.assert_without(&[
        &world.app.trigger_url,
        world.app.trigger_url.rsplit('/').next().unwrap(),
        &BASE64URL_NOPAD.encode(wrapped.as_bytes()),
        "eyJ",
        "Bearer",
        "secret-path",
        "secret-query",
        target::ANSWERED,
        forge_app::ANSWERED,
    ]);
}

/// One tick whose store refuses its call of this index, an operation of this name.
async fn tick_without(world: &World, index: usize, operation: &str) {
    let faults = Faults::at(index, Fault::Refused);
    let function = world.function_with_store_faults(&faults);
    world.clock.advance(300);
    let _ = function.handle(world.scheduled(), world.deadline()).await;
    assert_eq!(faults.operations()[index], operation);
}

fn loopback() -> TargetPolicy {
    TargetPolicy::public(vec![], vec![]).allow_loopback()
}

async fn answers_of_the_app(log: &mut Log) {
    let world = secret_world().await;
    let function = world.function();
    let checked = |answer: &str| {
        json!({ "level": "INFO", "message": "tenant checked", "callback.response": answer,
                "tenant.id": world.app.tenant_id(), "services": 1 })
    };
    let done = json!({ "level": "INFO", "message": "tick done", "tenants": 1, "tenants.accepted": 1, "services": 1,
                       "tick.lateness_s": 1, "tick": "2026-11-22T10:10:00Z" });
    world.next_tick(&function).await;
    log.expect("accepted", &[checked("ACCEPTED"), done]);

    world.target.answer(500);
    let failing = json!({ "level": "INFO", "message": "service is not alive", "probe.outcome": "status" });
    for (reply, name, told) in [
        (Reply::Code(401, "UNAUTHORIZED"), "UNAUTHORIZED", line("ERROR", "the app refuses our callback")),
        (Reply::Code(403, "UNREGISTERED"), "UNREGISTERED", line("WARN", "callback not accepted")),
        (
            Reply::Platform(404),
            "PLATFORM",
            json!({ "level": "WARN", "message": "no answer of the app's own", "callback.http_status": 404 }),
        ),
    ] {
        world.app.answer_always(reply);
        world.next_tick(&function).await;
        log.expect(name, &[checked(name), failing.clone(), told]);
    }

    let mut function = function;
    function.probe =
        HttpProbe::new(TargetPolicy::public(vec![], vec![]), Limits::default(), world.clock.clone()).unwrap();
    world.app.answer_always(ACCEPTED);
    world.next_tick(&function).await;
    log.expect("blocked", &[json!({ "message": "service is not alive", "probe.outcome": "blocked" })]);
    assert_discreet(log, &world).await;
}

async fn what_cannot_be_told(log: &mut Log) {
    let world = secret_world().await;
    let mut function = world.function();
    world.refuse_notifications();
    world.next_tick(&function).await;
    log.expect("a failing bus", &[line("WARN", "changes of status could not be announced")]);
    world.bus.refuse(&[]);

    world.target.answer(500);
    tick_without(&world, 3, "UpdateItem").await;
    log.expect("an acknowledgement that is lost", &[line("ERROR", "the app's response could not be stored")]);
    tick_without(&world, 1, "Query").await;
    log.expect("a tenant that cannot be read", &[line("ERROR", "tenant could not be checked")]);

    function.settings.triggers.allow_loopback = false;
    world.next_tick(&function).await;
    let not_sent = "the stored trigger is not allowed (any more); nothing is sent there";
    log.expect("another list of triggers", &[line("ERROR", not_sent)]);

    let kms = aws_sdk_kms::Client::new(&world.aws.settings);
    kms.disable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    function.keys = KeyCache::new(world.aws.wrapping_key());
    function.settings.triggers.allow_loopback = true;
    world.next_tick(&function).await;
    let not_signed = "a tenant's key cannot sign";
    log.expect("a disabled key", &[line("ERROR", not_signed)]);

    let future = Event::Scheduled { time: Timestamp::MAX };
    function.handle(future, world.deadline()).await.unwrap();
    log.expect("a tick from the future", &[line("ERROR", "tick refused")]);
    function.store = Store::new(world.aws.dynamo(), "no-such-table".to_owned());
    function.handle(world.scheduled(), world.deadline()).await.unwrap_err();
    // The runtime logs what is returned.
    log.expect("a table that is gone", &[]);
    assert_discreet(log, &world).await;
}

async fn records_that_are_not_what_they_should_be(log: &mut Log) {
    let world = secret_world().await;
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let key = |tenant: &str| {
        HashMap::from([
            ("pk".to_owned(), text(&format!("TENANT#{tenant}"))),
            ("sk".to_owned(), text("TENANT")),
        ])
    };
    let dynamo = world.aws.dynamo();
    let table = &world.aws.table;
    let mut stray = key("stray");
    stray.extend([("active".to_owned(), text("ACTIVE")), ("tenantId".to_owned(), text("stray"))]);
    dynamo.put_item().table_name(table).set_item(Some(stray)).send().await.unwrap();
    world.next_tick(&world.function()).await;
    log.expect("a stray entry", &[line("ERROR", "an index entry names no tenant and is passed over")]);
    dynamo.delete_item().table_name(table).set_key(Some(key("stray"))).send().await.unwrap();

    let mine = key(world.app.tenant_id().as_str());
    let set = async |status: &str| {
        let update = dynamo.update_item().table_name(table).set_key(Some(mine.clone()));
        let update = update.update_expression("SET #s = :s").expression_attribute_names("#s", "status");
        update.expression_attribute_values(":s", text(status)).send().await.unwrap();
    };
    set("cheerful").await;
    world.next_tick(&world.function()).await;
    log.expect("a record that cannot be read", &[line("ERROR", "tenant skipped")]);
    set("active").await;
    assert_discreet(log, &world).await;
}

/// Says when it is asked, and answers when it may.
struct Waiting<P> {
    probe: P,
    asked: Arc<Notify>,
    may: Arc<Notify>,
}

impl<P: Probe> Probe for Waiting<P> {
    async fn probe(&self, check: &Check, quota: &TenantQuota, attempt: Attempt) -> Observation {
        self.asked.notify_one();
        self.may.notified().await;
        self.probe.probe(check, quota, attempt).await
    }
}

async fn a_tick_that_another_invocation_has(log: &mut Log) {
    let world = secret_world().await;
    let (asked, may) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let probe = Waiting { probe: world.probe(), asked: Arc::clone(&asked), may: Arc::clone(&may) };
    let slow = world.function_with(world.callbacks(), probe);
    let quick = world.function();
    let overtake = async {
        asked.notified().await;
        world.tick(&quick).await;
        may.notify_one();
    };
    let (summary, ()) = tokio::join!(slow.handle(world.scheduled(), world.deadline()), overtake);
    assert_eq!(summary.unwrap().skipped, 1);
    log.expect("overtaken", &[line("INFO", "another invocation has this tick")]);
    assert_discreet(log, &world).await;
}

/// The app has been gone for longer than a day.
async fn gone(world: &World, app: &ForgeApp) {
    let since = Some(world.clock.now() - SignedDuration::from_hours(25));
    let deliveries = FailureStreak { failing_since: since, gone_since: since };
    world.aws.store().record_failures(&app.tenant_id(), FailureStreak::default(), deliveries).await.unwrap();
    app.answer_always(Reply::Platform(404));
}

async fn suspension(log: &mut Log) {
    let world = secret_world().await;
    let mut apps = vec![world.app.clone()];
    for _ in 0..4 {
        let app = world.another_app().await;
        world.add(&app, "secret-path").await;
        apps.push(app);
    }
    world.next_tick(&world.function()).await;
    log.expect("five tenants", &[]);
    for app in &apps {
        gone(&world, app).await;
    }
    world.next_tick(&world.function()).await;
    let unanswered = line("WARN", "no answer of the app's own");
    let kept = "not suspended: too many tenants fail alike";
    log.expect(
        "a shared fault",
        &[unanswered.clone(), json!({ "level": "WARN", "message": kept, "tenants": 5 })],
    );

    let world = secret_world().await;
    world.next_tick(&world.function()).await;
    gone(&world, &world.app).await;
    tick_without(&world, 3, "TransactWriteItems").await;
    log.expect("not suspended", &[unanswered.clone(), line("ERROR", "tenant could not be suspended")]);
    world.next_tick(&world.function()).await;
    let suspended = "tenant suspended: its app has not answered for long";
    log.expect("suspended", &[unanswered, line("WARN", suspended)]);

    world.app.answer_always(ACCEPTED);
    let due = i64::try_from(world.app.tenant_id().seed() % 288).unwrap() * 300;
    let ahead = (due - world.clock.now().as_second()).rem_euclid(86_400);
    world.clock.advance(if ahead == 0 { 86_400 } else { ahead });
    world.tick(&world.function()).await;
    log.expect("revived", &[line("INFO", "the app answers again; the tenant is checked from now on")]);
    assert_discreet(log, &world).await;
}

async fn suppressed_verdicts(log: &mut Log) {
    let world = secret_world().await;
    let control = Target::start_at(2).await;
    control.answer(500);
    let mut function = world.function();
    let url = loopback().target(&control.url("")).unwrap();
    function.settings.controls = vec![Check::get(url)];
    world.next_tick(&function).await;
    world.target.answer(500);
    world.refuse_notifications();
    world.next_tick(&function).await;
    let suppressed =
        "verdicts suppressed: most control endpoints fail too, so the network of this backend is down";
    log.expect(
        "suppressed",
        &[
            json!({ "level": "ERROR", "message": suppressed, "tenants": 1, "services": 1 }),
            line("ERROR", "suppressed verdicts could not be announced"),
            json!({ "level": "INFO", "message": "service is not alive", "verdict": "suppressed" }),
            json!({ "level": "INFO", "message": "tenant checked", "services.suppressed": 1 }),
        ],
    );
    assert_discreet(log, &world).await;
}

async fn a_key_that_follows(log: &mut Log) {
    let world = secret_world().await;
    let function = world.function();
    let next = world.offer_next_key(&world.app).await;
    let about_next = |level: &str, message: &str| {
        json!({ "level": level, "message": message,
                "tenant.id": world.app.tenant_id(), "key.id": next.key.public.kid() })
    };
    world.app.ignore_endorsements();
    world.next_tick(&function).await;
    let both_tried =
        json!({ "message": "tenant checked", "callback.response": "ACCEPTED", "callback.attempts": 2 });
    let refused = about_next("ERROR", "the app refuses its next key; reports go on under the present one");
    log.expect("a next key that is refused", &[both_tried, refused]);

    let kms = aws_sdk_kms::Client::new(&world.aws.settings);
    kms.disable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();
    let cold = world.function();
    world.next_tick(&cold).await;
    let not_signed = line("ERROR", "a tenant's key cannot sign");
    log.expect("two keys that cannot sign", &[not_signed]);
    kms.enable_key().key_id(&world.aws.wrapping_key_id).send().await.unwrap();

    let world = secret_world().await;
    let next = world.offer_next_key(&world.app).await;
    world.spoil_next_key(&world.app).await;
    world.next_tick(&world.function()).await;
    let unusable = "the next key is unusable; reports go on under the present one";
    log.expect(
        "a next key that is unusable",
        &[
            line("ERROR", "a tenant's key cannot sign"),
            json!({ "level": "ERROR", "message": unusable, "key.id": next.key.public.kid() }),
        ],
    );
    assert_discreet(log, &world).await;

    let world = secret_world().await;
    let function = world.function();
    let next = world.offer_next_key(&world.app).await;
    for _ in 0..2 {
        world.next_tick(&function).await;
    }
    let replaced =
        json!({ "level": "INFO", "message": "tenant key replaced", "key.id": next.key.public.kid() });
    log.expect("a key that is replaced", &[replaced]);
    assert_discreet(log, &world).await;
    log.assert_without(&[&BASE64URL_NOPAD.encode(next.key.wrapped.as_bytes())]);
}

async fn out_of_time(log: &mut Log) {
    let world = secret_world().await;
    let other = world.another_app().await;
    world.add(&other, "secret-path").await;
    let mut function = world.function();
    function.settings.tenants_per_invocation = 1;
    world.tick(&function).await;
    log.expect("many tenants", &[json!({ "message": "tick split into shards", "tenants": 2, "shards": 2 })]);

    function.settings.tenants_per_invocation = 10;
    let soon = world.clock.now() + SignedDuration::from_secs(44);
    function.handle(world.scheduled(), soon).await.unwrap();
    let rest = json!({ "level": "WARN", "message": "out of time; the rest is requeued", "tenants.left": 2 });
    log.expect("out of time", &[rest]);

    let shard = world.shards().pop().unwrap();
    let tired = Event::Shard { detail: Shard { generation: 5, ..shard.clone() } };
    function.handle(tired, soon).await.unwrap();
    log.expect("tired", &[line("ERROR", "requeued too often; they wait for the next tick")]);

    world.clock.advance(300);
    let soon = soon + SignedDuration::from_secs(300);
    function.handle(Event::Shard { detail: shard }, soon).await.unwrap();
    let covered = "out of time; the next tick has begun and covers them";
    log.expect("too late", &[line("WARN", covered)]);
    assert_discreet(log, &world).await;
}
