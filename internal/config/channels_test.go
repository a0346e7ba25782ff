package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/notify/webhook"
	"github.com/rekeyhq/rekey/rotation"
)

const channels = `install: acme01
ui_url: https://temporal.example.com/
channels:
  - name: team
    type: slack
    url_file: slack-url
    hours: {days: [mon, fri], from: "08:00", to: "18:00", zone: Europe/Berlin}
  - name: oncall
    type: webhook
    url: https://oncall.example.com/hooks/rekey
    secret_env: ONCALL_SECRET
providers: {openai: {type: openai}}
stores: {local: {type: local, dir: secrets, identity: identity/identity.txt}}
tiers:
  production: {notify: [team], escalate: [oncall], remind: 4h}
keys:
  - name: openai-prod
    provider: openai
    account: proj_1
    stores: [{store: local, path: openai-prod}]
    policy: {escalate_after: 2d}
  - name: openai-quiet
    provider: openai
    account: proj_2
    stores: [{store: local, path: openai-quiet}]
    policy: {notify: [], escalate: []}
`

func TestAKeyTellsTheChannelsOfItsTierOrItsOwn(t *testing.T) {
	c, err := config.Parse("/etc/rekey/rekey.yaml", []byte(channels))
	if err != nil {
		t.Fatal(err)
	}
	team := rotation.Channel{Name: "team", Hours: rotation.Window{Days: []rotation.Day{"mon", "fri"}, From: 8 * 60, To: 18 * 60, Zone: "Europe/Berlin"}}
	p := c.Keys[0].Policy
	if diff := cmp.Diff([]rotation.Channel{team, {Name: "oncall"}}, p.Channels()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if p.RemindAfter() != 4*time.Hour || p.EscalatesAfter() != 48*time.Hour {
		t.Errorf("reminds after %s, escalates after %s", p.RemindAfter(), p.EscalatesAfter())
	}
	if got := c.Keys[1].Policy.Channels(); len(got) != 0 {
		t.Errorf("a key that says [] tells %v", got)
	}
	if p := c.Keys[1].Policy; p.EscalatesAfter() != 84*time.Hour {
		t.Errorf("half of a week is %s", p.EscalatesAfter())
	}
	if got := c.Channels[0].Options; got.Address.File != "/etc/rekey/slack-url" || c.Channels[1].Options.Secret != (webhook.Source{Env: "ONCALL_SECRET"}) || c.UI != "https://temporal.example.com" {
		t.Errorf("got %+v, %s", c.Channels, c.UI)
	}
}

func TestBadChannelsAreRefusedWithThePlaceAndWhatWasExpected(t *testing.T) {
	for sentence, tc := range map[string]struct{ replace, with, want string }{
		"a type":                         {"type: slack", "type: slakc", `rekey.yaml:5:11: channels[0].type: "slakc" is not known; expected slack or webhook`},
		"Slack's address in the file":    {"url_file: slack-url", "url: https://hooks.slack.com/services/T/B/hunter2", "channels[0].url: Slack's address is itself a secret"},
		"no address":                     {"    url_file: slack-url\n", "", "channels[0]: the address is missing; expected url_file or url_env"},
		"two addresses":                  {"url_file: slack-url", "url_file: slack-url\n    url_env: X", "channels[0].url_env: expected one of url_file and url_env"},
		"two addresses, one in the file": {"    secret_env", "    url_env: X\n    secret_env", "channels[1].url: expected one of url, url_file and url_env"},
		"an address without TLS":         {"https://oncall", "http://oncall", "cannot be used as an address"},
		"an address with a password":     {"https://oncall", "https://me:pw@oncall", "cannot be used as an address"},
		"no secret":                      {"    secret_env: ONCALL_SECRET\n", "", "channels[1]: the secret to sign with is missing"},
		"a secret for Slack":             {"url_file: slack-url", "url_file: slack-url\n    secret_file: x", "channels[0].secret_file: is for type webhook only"},
		"a secret where its name goes":   {"ONCALL_SECRET", "0123-hunter2-4567", "channels[1].secret_env: expected the name of an environment variable"},
		"a name":                         {"name: team", "name: the team", `"the team" cannot name a channel`},
		"no name":                        {"name: team", `name: ""`, "channels[0].name: missing"},
		"a name twice":                   {"name: oncall", "name: team", `another channel is called "team" already`},
		"hours":                          {`"08:00"`, `"8h"`, `channels[0].hours.from: "8h" is not a valid time of day`},
		"a time zone":                    {"Europe/Berlin", "Europe/Bonn", `channels[0].hours.zone: "Europe/Bonn" is not a valid time zone`},
		"a channel that is not there":    {"notify: [team]", "notify: [taem]", `tiers.production.notify[0]: there is no channel "taem"; expected team or oncall`},
		"a channel twice":                {"notify: [team]", "notify: [team, team]", `"team" is listed twice`},
		"an escalation to who knows":     {"escalate: [oncall]", "escalate: [team]", `keys[0].policy.escalate: "team" is notified first already`},
		"an escalation after the end":    {"escalate_after: 2d", "escalate_after: 1w", "keys[0].policy.escalate_after: 1w is not before the deadline (patience 1w)"},
		"reminders without end":          {"remind: 4h", "remind: 0s", "tiers.production.remind: must be longer than 0"},
		"the address of the UI":          {"https://temporal.example.com/", "temporal.example.com:8233", `rekey.yaml:2:9: ui_url: "temporal.example.com:8233" is not the address of a Temporal UI`},
		"an unknown field":               {"type: webhook", "type: webhook\n    colour: red", `there is no field "colour" here`},
	} {
		t.Run(sentence, func(t *testing.T) {
			text := strings.Replace(channels, tc.replace, tc.with, 1)
			if text == channels {
				t.Fatal("nothing was replaced")
			}
			c, err := config.Parse("rekey.yaml", []byte(text))
			if err == nil || c != nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v", err)
			}
		})
	}
}
