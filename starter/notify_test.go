package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// notifyFixture is a fixture with two channels and a key whose policy notifies the first.
func notifyFixture(t *testing.T) *fixture {
	t.Helper()
	o := fast(t, "notify: [team]", "escalate: [oncall]")
	o.Channels = true
	return newFixture(t, o, func(c *scenario.Scenario) error {
		_, err := c.OpenAIKey("gpt", scenario.Alias)
		return err
	})
}

// told waits until n messages have come, and gives their texts.
func (s *fixture) told(n int) []string {
	s.Helper()
	var texts []string
	s.Await(fmt.Sprintf("%d messages", n), func() bool {
		texts = nil
		for _, m := range s.Post.Messages() {
			texts = append(texts, m.Text)
		}
		return len(texts) >= n
	})
	if len(texts) != n {
		s.Fatalf("%d messages, want %d:\n%s", len(texts), n, strings.Join(texts, "\n---\n"))
	}
	return texts
}

func TestDoctorTriesTheChannelsOutAndSaysWhatIsWrongWithThem(t *testing.T) {
	t.Parallel()
	s := notifyFixture(t)
	if out := s.rekey(exitOK, "", "doctor"); !strings.Contains(out, "channel team") || !strings.Contains(out, "somebody listens") {
		t.Errorf("doctor says:\n%s", out)
	}
	s.told(0)
	if out := s.rekey(exitOK, "", "doctor", "--notify"); strings.Count(out, "a test message was taken") != 2 {
		t.Errorf("doctor --notify says:\n%s", out)
	}
	for _, text := range s.told(2) {
		if !strings.HasPrefix(text, "A test: ") {
			t.Errorf("it said:\n%s", text)
		}
	}
	s.Cloud.Inject(simcloud.Fault{Service: simcloud.SlackService, Kind: simcloud.Refuse, Code: 404})
	out := s.rekey(exitFailed, "", "doctor", "--notify")
	if !strings.Contains(out, "FAIL  channel team") || !strings.Contains(out, "Make another one") || strings.Contains(out, "XrekeyXrekey") {
		t.Errorf("doctor --notify says:\n%s", out)
	}
}

func TestAPersonIsToldTakesMoreTimeLeavesANoteAndTheEndIsTold(t *testing.T) {
	t.Parallel()
	s := notifyFixture(t)
	s.rekey(exitOK, "", "rotate", "gpt")
	began := s.AwaitPhase("gpt", rotation.AwaitingKey)
	if text := s.told(1)[0]; !strings.HasPrefix(text, "A person is needed: gpt") {
		t.Errorf("it said:\n%s", text)
	}

	out := s.rekey(exitOK, "", "extend-deadline", "gpt", "--for", "2d", "--why", "Kim is back on Monday")
	moved := s.AwaitPhase("gpt", rotation.AwaitingKey)
	if !strings.Contains(out, "extend-deadline taken") || moved.Deadline.Sub(began.Deadline) != 48*time.Hour {
		t.Errorf("the deadline moved by %s:\n%s", moved.Deadline.Sub(began.Deadline), out)
	}
	if out := s.rekey(exitRefused, "", "extend-grace", "gpt", "--for", "2d", "--why", "x"); !strings.Contains(out, "extend-grace is for the phase grace") {
		t.Errorf("--grace says:\n%s", out)
	}

	s.rekey(exitBadInput, "", "add-note", "gpt")
	s.rekey(exitOK, "", "add-note", "gpt", "--by", "ana", "--why", "asked Kim")
	if out := s.rekey(exitOK, "", "explain", "gpt"); !strings.Contains(out, "by ana") || !strings.Contains(out, "asked Kim") || !strings.Contains(out, "Notified: team 20") {
		t.Errorf("explain says:\n%s", out)
	}

	s.rekey(exitOK, "", "roll-back", "gpt", "--why", "not today")
	s.Result("gpt", "")
	if text := s.told(2)[1]; !strings.HasPrefix(text, "Rolled back: gpt") || !strings.Contains(text, "not today") || !strings.Contains(text, "Note: ana: asked Kim") {
		t.Errorf("how it ended:\n%s", text)
	}
	searched(t, strings.Join(s.told(2), "\n"), s.values()...)
}
