package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

func TestTheInboxShowsWhatWaitsForAPersonOldestFirstAndHowToAnswer(t *testing.T) {
	t.Parallel()
	s := newFixture(t, fast(t), func(c *scenario.Scenario) error {
		for _, name := range []string{"zebra", "ant", "gnu"} {
			if _, err := c.OpenAIKey(name, scenario.Alias); err != nil {
				return err
			}
		}
		return nil
	})
	if out := s.rekey(exitOK, "", "inbox", "--check"); !strings.Contains(out, "No rotation waits") {
		t.Errorf("before any rotation: %s", out)
	}
	for _, name := range []string{"zebra", "ant", "gnu"} {
		s.rekey(exitOK, "", "rotate", name)
		s.AwaitPhase(name, rotation.AwaitingKey)
	}
	s.rekey(exitOK, "", "roll-back", "gnu", "--why", "not today")
	s.Result("gnu", "")
	s.listed(2)

	out := s.rekey(exitRefused, "", "inbox", "--check")
	zebra, ant := strings.Index(out, "rekey supply zebra"), strings.Index(out, "rekey supply ant")
	if zebra < 0 || ant < zebra || strings.Contains(out, "rekey supply gnu") {
		t.Errorf("the inbox:\n%s", out)
	}
	var got inboxContents
	if err := json.Unmarshal([]byte(s.rekey(exitOK, "", "inbox", "--json")), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Waiting) != 2 || got.Waiting[0].Key != "zebra" || got.Waiting[0].Phase != rotation.AwaitingKey || got.Waiting[0].Tier == "" ||
		got.Waiting[0].Reason != rotation.Manual || !got.Waiting[0].Deadline.After(time.Now()) || len(got.FollowUps) != 0 {
		t.Errorf("%+v", got)
	}

	// What a rotation left stays in the inbox when it has ended.
	s.rekey(exitOK, "", "emergency", "ant", "--why", "seen in a log", "--leaked", "0123456789ab", "--yes", "--detach")
	s.Result("ant", "")
	s.listed(1)
	if out := s.rekey(exitOK, "", "inbox"); !strings.Contains(out, "ant, ") || !strings.Contains(out, "0123456789ab was said to have leaked") {
		t.Errorf("the inbox:\n%s", out)
	}

	out = s.rekey(exitOK, "", "explain", "zebra")
	for _, want := range []string{"What to do now", "How it got there", "rekey supply zebra", `rekey roll-back zebra --why "…"`} {
		if !strings.Contains(out, want) {
			t.Errorf("explain lacks %q:\n%s", want, out)
		}
	}
	if out := s.rekey(exitOK, "", "explain", "gnu"); !strings.Contains(out, "rolled-back") || !strings.Contains(out, "roll-back by ") {
		t.Errorf("explain of a rotation that has ended:\n%s", out)
	}
}

// listed waits until Temporal's list, which lags, shows so many rotations that wait.
func (s *fixture) listed(n int) {
	s.Helper()
	s.Await(fmt.Sprintf("Temporal lists %d waiting rotations", n), func() bool {
		all, err := client.New(s.Client).Inbox(s.Context())
		if err != nil {
			s.Fatal(err)
		}
		return len(all) == n
	})
}

func TestEveryDecisionHasACommand(t *testing.T) {
	var out, errOut strings.Builder
	if code := run(t.Context(), []string{"--help"}, strings.NewReader(""), &out, &errOut); code != exitOK {
		t.Fatal(errOut.String())
	}
	for _, k := range rotation.DecisionKinds() {
		if command := decisionCommand(k, "gpt"); !slices.Contains(strings.Fields(out.String()), strings.Fields(command)[1]) {
			t.Errorf("%s is sent by %q, which is no command", k, command)
		}
	}
}
