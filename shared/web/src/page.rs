//! The pages a person sees: compile-time templates, no script, no third-party resource, links relative because the
//! local API lives under a path prefix.
//!
//! Not here: the answer around a page (headers, status); that is `response`.

use askama::Template;

use crate::form::Form;
use crate::problem::Problem;
use domain::check::{Observation, ProbeFailure};
use domain::handoff::{Handoff, Management, ReturnUrl};
use domain::service::{Change, Lifecycle, Service};
use domain::tenant::TenantStatus;
use domain::tick::Period;

/// The stylesheet of every page, served as `style.css`.
pub const STYLE: &str = include_str!("../templates/style.css");

#[derive(Template)]
#[template(path = "register.html")]
struct RegisterPage<'a> {
    form: &'a Form,
    site: Option<&'a str>,
    back: Option<&'a str>,
    handoff: &'a str,
    problem: Option<&'a Problem>,
}

impl RegisterPage<'_> {
    fn error(&self, field: &str) -> Option<&str> {
        self.problem?.errors.iter().find(|error| error.field == field).map(|error| error.message.as_str())
    }

    #[expect(clippy::unused_self, reason = "templates call methods")]
    fn label(&self, field: &str) -> &'static str {
        match field {
            "name" => "Name",
            "url" => "URL to check",
            "method" => "Method",
            "expectedStatus" => "Status codes",
            "timeoutMs" => "Longest wait",
            "downAfter" => "Down after",
            "aliveAfter" => "Up again after",
            _ => "Input",
        }
    }

    /// The options stay folded until one of them is set or wrong.
    fn shows_options(&self) -> bool {
        let texts = ["expectedStatus", "timeoutMs", "downAfter", "aliveAfter"];
        let fields = [&texts[..], &["method"]].concat();
        texts.iter().any(|field| !self.form.get(field).is_empty())
            || self.form.get("method") == "HEAD"
            || fields.iter().any(|field| self.error(field).is_some())
    }
}

#[derive(Template)]
#[template(path = "added.html")]
struct AddedPage<'a> {
    new: bool,
    paused: bool,
    name: &'a str,
    url: &'a str,
    first: Option<&'a Observation>,
    failure: &'static str,
    back: Option<&'a str>,
}

#[derive(Template)]
#[template(path = "manage.html")]
struct ManagePage<'a> {
    change: Change,
    name: &'a str,
    url: &'a str,
    site: Option<&'a str>,
    back: Option<&'a str>,
    handoff: &'a str,
    problem: Option<&'a Problem>,
}

#[derive(Template)]
#[template(path = "managed.html")]
struct ManagedPage<'a> {
    change: Change,
    name: &'a str,
    next_report: NextReport,
    back: Option<&'a str>,
}

/// When the app is sent the next report, which tells what was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextReport {
    /// Within so many minutes.
    Within(i64),
    /// Once a day one is tried: the app has accepted none for long.
    Daily,
    /// Not before the app accepts a registration: it has no key of ours.
    AfterRegistration,
}

impl NextReport {
    /// Of a tenant with this status, or of none.
    #[must_use]
    pub fn of(status: Option<TenantStatus>, period: Period) -> Self {
        match status {
            Some(TenantStatus::Active) => Self::Within(period.duration().as_mins()),
            Some(TenantStatus::Suspended) => Self::Daily,
            Some(TenantStatus::Pending | TenantStatus::Unregistered) | None => Self::AfterRegistration,
        }
    }
}

#[derive(Template)]
#[template(path = "notice.html")]
struct NoticePage<'a> {
    problem: &'a Problem,
    back: Option<&'a str>,
}

/// The registration form, with a problem to correct if there is one.
#[must_use]
pub fn register(form: &Form, handoff: &Handoff, problem: Option<&Problem>) -> String {
    let back = handoff.return_url.as_ref();
    let page = RegisterPage {
        form,
        site: back.map(ReturnUrl::host),
        back: back.map(ReturnUrl::as_str),
        handoff: &handoff.token,
        problem,
    };
    render(&page)
}

/// The service as registered, and its first check.
#[must_use]
pub fn added(service: &Service, new: bool, back: Option<&ReturnUrl>) -> String {
    let first = service.first.as_ref();
    render(&AddedPage {
        new,
        paused: service.lifecycle == Lifecycle::Paused,
        name: service.name.as_str(),
        url: service.check.url.as_str(),
        first,
        failure: first.and_then(|first| first.failure).map_or("", explain),
        back: back.map(ReturnUrl::as_str),
    })
}

/// What is about to be done to a service, and the button that does it; with a problem when pressing it did not help. Shows
/// nothing but what the Forge app signed.
#[must_use]
pub fn manage(management: &Management, problem: Option<&Problem>) -> String {
    let back = management.handoff.return_url.as_ref();
    render(&ManagePage {
        change: management.change,
        name: management.service_name.as_str(),
        url: &management.service_url,
        site: back.map(ReturnUrl::host),
        back: back.map(ReturnUrl::as_str),
        handoff: &management.handoff.token,
        problem,
    })
}

/// What was done to a service, and when Jira shows it.
#[must_use]
pub fn managed(management: &Management, next_report: NextReport) -> String {
    render(&ManagedPage {
        change: management.change,
        name: management.service_name.as_str(),
        next_report,
        back: management.handoff.return_url.as_ref().map(ReturnUrl::as_str),
    })
}

/// What happened and what to do, where no form can help.
#[must_use]
pub fn notice(problem: &Problem, back: Option<&ReturnUrl>) -> String {
    render(&NoticePage { problem, back: back.map(ReturnUrl::as_str) })
}

fn render(page: &impl Template) -> String {
    // Rendering into a String fails only if a Display does, and none here can.
    page.render().unwrap_or_default()
}

/// A failure class in a sentence for the person who typed the URL.
fn explain(failure: ProbeFailure) -> &'static str {
    match failure {
        ProbeFailure::Dns => "the host name could not be resolved.",
        ProbeFailure::Connect => "no connection could be made.",
        ProbeFailure::Tls => "the secure connection failed; is the certificate valid?",
        ProbeFailure::Timeout => "there was no answer in time.",
        ProbeFailure::Status => "it answered with an unexpected status code.",
        ProbeFailure::Body => "the answer broke off.",
        ProbeFailure::Redirect => "it redirects too often or to somewhere we do not follow.",
        ProbeFailure::Blocked => "it leads to an address that is not public.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::FieldError;

    #[test]
    fn what_a_person_typed_comes_back_escaped_and_with_its_message() {
        let handoff = Handoff {
            cloud_id: domain::id::CloudId::parse("11111111-2222-4333-8444-555555555555").unwrap(),
            owner: domain::id::Owner::parse("a").unwrap(),
            trigger_url: domain::tenant::TriggerPolicy {
                hosts: vec!["t.example".into()],
                allow_loopback: false,
            }
            .parse("https://t.example/x1/a")
            .unwrap(),
            return_url: None,
            token: "a.b.c".into(),
            reference: domain::handoff::HandoffRef {
                id: domain::id::HandoffId::derive("app", "1"),
                expires_at: jiff::Timestamp::UNIX_EPOCH,
            },
        };
        let form = Form::default().with("name", "\"><script>alert(1)</script>");
        let error = FieldError { field: "url", message: "<b>wrong</b>".into() };
        let page = register(&form, &handoff, Some(&Problem::fields(400, "INVALID_INPUT", vec![error])));
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("<input type=\"hidden\" name=\"handoff\" value=\"a.b.c\">"), "{page}");
        assert_eq!(page.matches("type=\"hidden\"").count(), 1, "{page}");
        assert!(
            page.contains("id=\"url-error\"") && page.contains("aria-describedby=\"url-hint url-error\"")
        );
    }
}
