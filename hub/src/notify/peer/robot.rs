//! Robots of group chats: 企业微信, 钉钉, 飞书. A digest is one text.
//!
//! | robot | key | signature |
//! | --- | --- | --- |
//! | 企业微信 | query `key` | none |
//! | 钉钉 | query `access_token` | query `timestamp` (ms) and `sign` = base64(HMAC-SHA256(secret, "ts\nsecret")) |
//! | 飞书 | last part of the path | body `timestamp` (s) and `sign` = base64(HMAC-SHA256("ts\nsecret", "")) |
//!
//! They answer 200 also to what they refuse: `errcode` (企业微信, 钉钉), `code` or `StatusCode` (飞书) is 0 for
//! what was taken. Their codes for "too fast" and "busy" are tried again, all others are not.
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Url};
use ring::hmac;
use serde_json::{Value, json};

use super::{Answer, Failure, Letter, ask, notices, told};
use crate::notify::words;

/// Busy; too many calls; too many at once.
const WECOM_LATER: &[i64] = &[-1, 45009, 45033];
/// Busy; too fast, by its old and its new code.
const DINGTALK_LATER: &[i64] = &[-1, 130101, 410100];
/// Too many requests, by the robot's, the gateway's and the platform's code.
const FEISHU_LATER: &[i64] = &[9499, 11232, 99991400];

enum Kind {
    Wecom,
    Dingtalk { secret: String },
    Feishu { secret: String },
}

/// One robot.
pub struct Robot {
    client: Client,
    /// With the key.
    url: Url,
    kind: Kind,
}

impl Robot {
    /// 企业微信
    pub fn wecom(client: Client, url: &Url, key: &str) -> Self {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("key", key);
        Self {
            client,
            url,
            kind: Kind::Wecom,
        }
    }

    /// 钉钉
    pub fn dingtalk(client: Client, url: &Url, key: &str, secret: String) -> Self {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("access_token", key);
        Self {
            client,
            url,
            kind: Kind::Dingtalk { secret },
        }
    }

    /// 飞书
    pub fn feishu(client: Client, url: &Url, key: &str, secret: String) -> Self {
        let mut url = url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(key);
        }
        Self {
            client,
            url,
            kind: Kind::Feishu { secret },
        }
    }

    /// Sends letters as one message.
    pub async fn send(&self, letters: &[Letter], now_ms: i64) -> Result<Answer, Failure> {
        let text = words::text(&notices(letters));
        let (url, body) = self.request(&text, now_ms);
        let answer = ask(self.client.post(url).json(&body)).await?;
        self.check(&answer.text)?;
        Ok(answer)
    }

    fn request(&self, text: &str, now_ms: i64) -> (Url, Value) {
        let mut url = self.url.clone();
        let body = match &self.kind {
            Kind::Wecom => json!({ "msgtype": "text", "text": { "content": text } }),
            Kind::Dingtalk { secret } => {
                url.query_pairs_mut()
                    .append_pair("timestamp", &now_ms.to_string())
                    .append_pair("sign", &dingtalk_sign(secret, now_ms));
                json!({ "msgtype": "text", "text": { "content": text } })
            }
            Kind::Feishu { secret } => {
                let now_s = now_ms.div_euclid(1000);
                json!({
                    "timestamp": now_s.to_string(),
                    "sign": feishu_sign(secret, now_s),
                    "msg_type": "text",
                    "content": { "text": text },
                })
            }
        };
        (url, body)
    }

    /// Looks for the robot's own word in an answer of status 200.
    fn check(&self, answer: &str) -> Result<(), Failure> {
        let read: Option<Value> = serde_json::from_str(answer).ok();
        let code = |names: &[&str]| {
            let read = read.as_ref()?;
            names.iter().find_map(|name| read.get(name)?.as_i64())
        };
        let (code, later) = match self.kind {
            Kind::Wecom => (code(&["errcode"]), WECOM_LATER),
            Kind::Dingtalk { .. } => (code(&["errcode"]), DINGTALK_LATER),
            Kind::Feishu { .. } => (code(&["code", "StatusCode"]), FEISHU_LATER),
        };
        match code {
            Some(0) => Ok(()),
            Some(code) if later.contains(&code) => Err(Failure::temporary(told(answer))),
            Some(_) => Err(Failure::permanent(told(answer))),
            // A proxy or a login page that answers in the robot's place.
            None => Err(Failure::temporary(format!(
                "this is not the answer of a robot: {}",
                told(answer)
            ))),
        }
    }
}

fn dingtalk_sign(secret: &str, now_ms: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, format!("{now_ms}\n{secret}").as_bytes()))
}

fn feishu_sign(secret: &str, now_s: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, format!("{now_s}\n{secret}").as_bytes());
    BASE64_STANDARD.encode(hmac::sign(&key, b""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "SECtest";
    const NOW_MS: i64 = 1_599_360_473_000;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn robots() -> [Robot; 3] {
        let client = || crate::notify::peer::client("test", None).expect("a client");
        [
            Robot::wecom(client(), &url("https://w.example/send"), "k e/y"),
            Robot::dingtalk(
                client(),
                &url("https://d.example/send"),
                "token",
                SECRET.to_owned(),
            ),
            Robot::feishu(
                client(),
                &url("https://f.example/hook"),
                "k/1",
                SECRET.to_owned(),
            ),
        ]
    }

    #[test]
    fn keys_and_signatures_stand_where_the_robots_want_them() {
        let [wecom, dingtalk, feishu] = robots();
        let (url, body) = wecom.request("火警", NOW_MS);
        assert_eq!(url.as_str(), "https://w.example/send?key=k+e%2Fy");
        assert_eq!(body["text"]["content"], "火警");
        let (url, _) = dingtalk.request("火警", NOW_MS);
        assert_eq!(
            url.as_str(),
            "https://d.example/send?access_token=token&timestamp=1599360473000&sign=9uMBwWNha8Pcr4QQCL9YQitwL0E0g2JIxycWz23gAkE%3D"
        );
        let (url, body) = feishu.request("火警", NOW_MS);
        assert_eq!(url.as_str(), "https://f.example/hook/k%2F1");
        assert_eq!(body["timestamp"], "1599360473");
        assert_eq!(body["sign"], "bMjxHlJJlXMW0yjKHZsmMvrFnAOfMlmWpRUsH3qMAek=");
        assert_eq!(body["content"]["text"], "火警");
    }

    #[test]
    fn an_answer_of_200_is_read_before_it_is_believed() {
        let [wecom, dingtalk, feishu] = robots();
        let temporary = |robot: &Robot, answer: &str| {
            matches!(robot.check(answer), Err(Failure::Temporary { .. }))
        };
        let permanent = |robot: &Robot, answer: &str| {
            matches!(robot.check(answer), Err(Failure::Permanent { .. }))
        };
        assert!(wecom.check(r#"{"errcode":0,"errmsg":"ok"}"#).is_ok());
        assert!(temporary(
            &wecom,
            r#"{"errcode":45009,"errmsg":"api freq out of limit"}"#
        ));
        assert!(permanent(
            &wecom,
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#
        ));
        assert!(temporary(
            &dingtalk,
            r#"{"errcode":410100,"errmsg":"too fast"}"#
        ));
        assert!(permanent(
            &dingtalk,
            r#"{"errcode":310000,"errmsg":"sign not match"}"#
        ));
        assert!(
            feishu
                .check(r#"{"StatusCode":0,"StatusMessage":"success"}"#)
                .is_ok()
        );
        assert!(feishu.check(r#"{"code":0,"msg":"success"}"#).is_ok());
        assert!(temporary(
            &feishu,
            r#"{"code":11232,"msg":"frequency limited"}"#
        ));
        assert!(permanent(
            &feishu,
            r#"{"code":19021,"msg":"sign match fail"}"#
        ));
        for robot in [&wecom, &dingtalk, &feishu] {
            assert!(temporary(robot, "<html>please log in</html>"));
            assert!(temporary(robot, "{}"));
        }
    }
}
