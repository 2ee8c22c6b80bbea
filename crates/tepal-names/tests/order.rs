//! The examples of RFC 6724, section 10, and the rules they leave out.

use std::net::IpAddr;

use tepal_names::config::Policy;
use tepal_names::{Candidate, Source, order_addresses};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn way(destination: &str, source: impl Into<Option<Source>>) -> Candidate {
    Candidate { destination: ip(destination).into(), source: source.into() }
}

fn from(text: &str) -> Source {
    Source::from(ip(text))
}

/// Both orders of the input must give the same output: `first`, then `second`.
#[track_caller]
fn expect_first(policy: &Policy, first: Candidate, second: Candidate) {
    for mut ways in [[first, second], [second, first]] {
        order_addresses(policy, &mut ways);
        assert_eq!(ways, [first, second]);
    }
}

#[test]
fn the_examples_of_section_10_2_come_out_as_printed() {
    let standard = Policy::default();
    let global = way("2001:db8:1::1", from("2001:db8:1::2"));
    let pairs = [
        // Prefer matching scope, both ways round.
        (global, way("198.51.100.121", from("169.254.13.78"))),
        (way("198.51.100.121", from("198.51.100.117")), way("2001:db8:1::1", from("fe80::1"))),
        // Prefer higher precedence.
        (global, way("10.1.2.3", from("10.1.2.4"))),
        // Prefer smaller scope.
        (way("fe80::1", from("fe80::2")), global),
        // Prefer home address.
        (
            way("2001:db8:1::1", Source { home: true, ..from("2001:db8:3::1") }),
            way("fe80::1", from("fe80::2")),
        ),
        // Avoid deprecated addresses.
        (global, way("fe80::1", Source { deprecated: true, ..from("fe80::2") })),
        // Longest matching prefix.
        (global, way("2001:db8:3ffe::1", from("2001:db8:3f44::2"))),
        // Prefer matching label.
        (
            way("2002:c633:6401::1", from("2002:c633:6401::2")),
            way("2001:db8:1::1", from("2002:c633:6401::2")),
        ),
        // Prefer higher precedence.
        (global, way("2002:c633:6401::1", from("2002:c633:6401::2"))),
    ];
    for (first, second) in pairs {
        expect_first(&standard, first, second);
    }
}

#[test]
fn section_10_3_a_policy_can_prefer_ipv4() {
    let v6 = way("2001:db8::1", from("2001:db8::2"));
    let v4 = way("198.51.100.121", from("198.51.100.117"));
    expect_first(&Policy::default(), v6, v4);
    let prefer_ipv4 = Policy::parse(
        "precedence ::1/128 50\nprecedence ::/0 40\nprecedence ::ffff:0:0/96 100\n\
         precedence 2002::/16 30\nprecedence 2001::/32 5\nprecedence fc00::/7 3\n",
    );
    expect_first(&prefer_ipv4, v4, v6);
    // Scope still comes first.
    expect_first(
        &prefer_ipv4,
        way("2001:db8:1::1", from("2001:db8:1::2")),
        way("198.51.100.121", from("169.254.13.78")),
    );
    expect_first(&prefer_ipv4, way("10.1.2.3", from("10.1.2.4")), v6);
}

#[test]
fn section_10_4_a_policy_can_prefer_global_to_link_local() {
    let policy = Policy::parse(
        "precedence ::1/128 50\nprecedence ::/0 40\nprecedence fe80::/10 33\n\
         precedence ::ffff:0:0/96 35\nprecedence 2002::/16 30\n\
         label ::1/128 0\nlabel ::/0 1\nlabel fe80::/10 1\nlabel ::ffff:0:0/96 4\n\
         label 2002::/16 2\n",
    );
    expect_first(
        &policy,
        way("2001:db8:1::1", from("2001:db8:1::2")),
        way("fe80::1", from("fe80::2")),
    );
    // A deprecated source of the global one turns it round.
    expect_first(
        &policy,
        way("fe80::1", from("fe80::2")),
        way("2001:db8:1::1", Source { deprecated: true, ..from("2001:db8:1::2") }),
    );
}

#[test]
fn sections_10_5_and_10_6_a_policy_steers_a_multi_homed_site() {
    let own = way("2001:db8:1aaa::1", from("2001:db8:1aaa::a"));
    let own_b = way("2001:db8:70aa::1", from("2001:db8:70aa::a"));
    let b_first = Policy::parse(
        "precedence ::1 50\nprecedence 2001:db8:1aaa::/48 43\nprecedence 2001:db8:70aa::/48 45\n\
         precedence ::/0 40\nlabel ::1 0\nlabel 2001:db8:1aaa::/48 6\nlabel 2001:db8:70aa::/48 7\n\
         label ::/0 1\n",
    );
    expect_first(&b_first, own_b, own);
    // Labels bring the right source to each side.
    expect_first(&b_first, own, way("2001:db8:70aa::1", from("2001:db8:1aaa::a")));
}

#[test]
fn section_10_7_a_policy_can_prefer_6to4_to_ipv4_or_not() {
    let six_to_four = way("2002:c633:6401::1", from("2002:c633:6401::2"));
    let v4 = way("10.1.2.3", from("10.1.2.4"));
    expect_first(&Policy::default(), v4, six_to_four);
    let policy = Policy::parse(
        "precedence ::1/128 50\nprecedence ::/0 40\nprecedence 2002::/16 36\n\
         precedence ::ffff:0:0/96 35\n",
    );
    expect_first(&policy, six_to_four, v4);
}

#[test]
fn what_cannot_be_reached_comes_last() {
    let policy = Policy::default();
    expect_first(&policy, way("192.0.2.1", from("192.0.2.9")), way("2001:db8::1", None));
    expect_first(&policy, way("2001:db8::1", None), way("192.0.2.1", None));
}

#[test]
fn a_native_way_comes_before_a_tunnel() {
    let tunnel = Source { encapsulated: true, ..from("2001:db8:1::2") };
    expect_first(
        &Policy::default(),
        way("2001:db8:2::1", from("2001:db8:2::2")),
        way("2001:db8:1::1", tunnel),
    );
}

#[test]
fn equal_ones_and_round_robin_ipv4_keep_their_order() {
    let policy = Policy::default();
    let texts = ["198.51.100.7", "10.55.0.1", "192.0.2.1", "198.51.100.8"];
    let ways = texts.map(|text| way(text, from("192.0.2.200")));
    let mut sorted = ways;
    order_addresses(&policy, &mut sorted);
    assert_eq!(sorted, ways);
    // Within the on-link prefix rule 9 counts for IPv4 too.
    let on_link = Source { prefix_len: Some(24), ..from("192.0.2.200") };
    let mut sorted = texts.map(|text| way(text, on_link));
    order_addresses(&policy, &mut sorted);
    assert_eq!(sorted[0].destination.ip, ip("192.0.2.1"));
    assert_eq!(sorted[1].destination.ip, ip("198.51.100.7"));
}
