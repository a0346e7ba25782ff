//go:build !noembed

package main

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// TestNothingThatTheCommandLinePrintsHoldsASecret goes through a working day: every command, in text and in JSON, when
// all is well and when it is not, with keys of people in the wrong places.
func TestNothingThatTheCommandLinePrintsHoldsASecret(t *testing.T) {
	t.Parallel()
	var badID string
	s := newFixture(t, fast(t), func(c *scenario.Scenario) (err error) {
		if _, err = c.Google("ci", scenario.Alias, scenario.Latest); err != nil {
			return err
		}
		if _, err = c.OpenAIKey("gpt", scenario.Alias, scenario.Local); err != nil {
			return err
		}
		badID, err = c.Google("bad", scenario.Alias)
		return err
	})
	// The replacement of this key is never accepted.
	s.Cloud.Inject(simcloud.Fault{Service: "google-token", Target: scenario.Account("bad"), Except: badID, Kind: simcloud.Refuse, Code: 400})
	both := func(want int, args ...string) {
		t.Helper()
		s.rekey(want, "", args...)
		s.rekey(want, "", append([]string{"--json"}, args...)...)
	}

	both(exitOK, "doctor")
	both(exitOK, "plan")
	both(exitOK, "status")
	s.rekey(exitOK, "", "rotate", "ci", "--watch")
	s.rekey(exitRolledBack, "", "--json", "rotate", "bad", "--watch")
	both(exitOK, "status", "bad")

	s.rekey(exitOK, "", "rotate", "gpt")
	s.AwaitPhase("gpt", rotation.AwaitingKey)
	both(exitOK, "status", "gpt")
	both(exitRefused, "approve", "gpt")
	s.rekey(exitRefused, "", "rotate", "gpt")
	s.rekey(exitRefused, "", "key-revoked", "gpt")

	_, other := s.OpenAI.CreateKey("proj_other", "of others")
	_, good := s.OpenAI.CreateKey(scenario.OpenAIProject("gpt"), "made by hand, again")
	key := good.Reveal()
	for name, stdin := range map[string]string{
		"a key of another project": other.Reveal(),
		"the old key":              s.First("gpt").Reveal(),
		"half a key":               key[:20] + "…",
		"two keys":                 key + "\n" + other.Reveal(),
		"a key among words":        "the new key is " + key,
		"a key of another kind":    "sk-admin-" + key[8:],
		"a whole file":             strings.Repeat(key+"\n", 1000),
		"a Google key":             s.First("ci").Reveal(),
	} {
		if out := s.rekey(exitBadInput, stdin, "supply", "gpt"); strings.Contains(strings.ToLower(out), "stored the key") {
			t.Errorf("%s was taken: %s", name, out)
		}
	}
	// In the wrong place: as an argument, as a reason.
	s.rekey(exitBadInput, "", "supply", key)
	s.rekey(exitBadInput, "", "supply", "gpt", key)
	s.rekey(exitBadInput, "", "status", key)
	s.rekey(exitBadInput, "", "roll-back", "gpt", "--why", "the new key is "+key)
	s.rekey(exitBadInput, "", "approve", key)
	s.rekey(exitBadInput, "", "approve", "gpt", "--by", key)
	s.rekey(exitBadInput, "", "extend-grace", "gpt", "--why", "x", "--for", key)

	s.rekey(exitOK, " \""+key+"\"\n", "--json", "supply", "gpt")
	s.AwaitPhase("gpt", rotation.AwaitingRevocation)
	both(exitOK, "status")
	s.rekey(exitRefused, key, "supply", "gpt")
	for _, k := range s.OpenAI.Keys(scenario.OpenAIProject("gpt")) {
		if k.Name == "made by hand" {
			if err := s.OpenAI.DeleteKey(k.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.rekey(exitOK, "", "key-revoked", "gpt")
	if res := s.Result("gpt", ""); res.Phase != rotation.Completed || res.New != good.Fingerprint() {
		t.Errorf("the rotation ended as %s with %s, want %s", res.Phase, res.New, good.Fingerprint())
	}
	both(exitOK, "status", "gpt")

	// OpenAI's refusal shows a part of the key.
	for _, k := range s.OpenAI.Keys(scenario.OpenAIProject("gpt")) {
		if err := s.OpenAI.DeleteKey(k.ID); err != nil {
			t.Fatal(err)
		}
	}
	both(exitFailed, "doctor")
	for _, code := range []int{401, 403, 500} {
		heal := s.Cloud.Inject(simcloud.Fault{Kind: simcloud.Refuse, Code: code})
		both(exitFailed, "doctor")
		heal()
	}
	searched(t, s.said.String(), s.values()...)
	named(t, s.said.String(), good)
}

func TestNothingThatTheDemoPrintsHoldsASecret(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		json  bool
		fault simcloud.Fault
		fails bool
	}{
		"in text": {},
		"when OpenAI refuses the client's requests, in text": {fault: simcloud.Fault{Service: "openai", Method: simcloud.OpenAIChat, Kind: simcloud.Refuse, Code: 401}, fails: true},
		"when a store is away for a moment, in JSON":         {json: true, fault: simcloud.Fault{Service: simcloud.SecretManagerService, Method: "AccessSecretVersion", Kind: simcloud.Refuse, Code: 503, Skip: 40, Times: 20}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errOut strings.Builder
			d := &demo{app: &app{out: &out, errOut: &errOut, json: tc.json}, ctx: context.Background(), text: &out}
			if tc.json {
				d.text = io.Discard
			}
			defer d.stop()
			if err := d.setUp(false); err != nil {
				t.Fatal(err)
			}
			if tc.fault.Kind != 0 {
				d.scene.Cloud.Inject(tc.fault)
			}
			err := d.perform(false)
			if err == nil && tc.fails {
				t.Error("the demo did not fail: the test proves less than it says")
			}
			if err != nil {
				errOut.WriteString(err.Error())
			}
			made := d.scene.OpenAI.Made()
			searched(t, out.String()+errOut.String(), append(d.scene.SM.Seen(), made...)...)
			if !strings.Contains(out.String(), "outcome") {
				t.Errorf("no summary was printed: %s", out.String())
			}
			if !tc.json {
				named(t, out.String(), made[len(made)-1])
			}
		})
	}
}
