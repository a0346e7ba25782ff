package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// channels are the options of a scenario whose policy notifies its two channels.
func channels(t *testing.T, policy ...string) scenario.Options {
	t.Helper()
	return scenario.Options{Channels: true, Dir: t.TempDir(), Policy: append(slices.Clone(fast), policy...)}
}

// told waits until channels of a service have been told n different things.
func (w *env) told(service string, n int) []simcloud.Message {
	w.Helper()
	var got []simcloud.Message
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		got = nil
		for _, m := range w.Post.Messages() {
			if m.Service == service && !m.Again {
				got = append(got, m)
			}
		}
		if len(got) >= n {
			break
		}
	}
	if len(got) != n {
		w.Fatalf("%d messages, want %d: %+v\n%s", len(got), n, got, w.Details(w.name))
	}
	return got
}

// about is what a message says it is about.
func about(all []simcloud.Message) string {
	var words []string
	for _, m := range all {
		words = append(words, m.Fields["event"].(string))
	}
	return strings.Join(words, " ")
}

func TestPeopleAreToldFromTheBeginningOfAWaitToTheEndOfTheRotation(t *testing.T) {
	t.Parallel()
	p := newByHand(t, channels(t, "notify: [team]", "escalate: [oncall]"))
	run := p.start(rotation.Manual)
	if text := p.told(simcloud.SlackService, 1)[0].Text; !strings.Contains(text, "rekey supply gpt") {
		t.Errorf("it said:\n%s", text)
	}
	id, v := p.supply()
	if text := p.told(simcloud.SlackService, 2)[1].Text; !strings.Contains(text, "rekey key-revoked gpt") {
		t.Errorf("it said:\n%s", text)
	}
	p.revoke()
	p.replacedBy(p.end(run), id, v)
	if text := p.told(simcloud.SlackService, 3)[2].Text; !strings.HasPrefix(text, "Done: gpt") {
		t.Errorf("it said:\n%s", text)
	}
	p.told(simcloud.WebhookService, 0)
	for what, secret := range map[string]string{"Slack's address": simcloud.SlackPath, "the secret of the webhook": scenario.HookSecret} {
		if strings.Contains(p.Logs(), secret) {
			t.Errorf("the worker logs %s", what)
		}
	}
	for _, m := range p.Post.Messages() {
		if strings.Contains(m.Text, v.Reveal()) {
			t.Error("a message holds the new key")
		}
	}
	id = workflows.NotifyID("gpt", rotation.ID(run.GetRunID()))
	if err := client.New(p.Client).WaitRun(context.Background(), id, "", nil); err != nil {
		t.Error(err)
	}
	h, err := replaytest.Check(context.Background(), p.Client, id, "")
	if err == nil {
		err = replaytest.Keep(h, "notify")
	}
	if err != nil {
		t.Error(err)
	}
}

// A week's wait, each day a second: at once, after one, three and five days, and at the end.
func TestAWeekOfWaitingCostsFewEvents(t *testing.T) {
	t.Parallel()
	p := newByHand(t, channels(t, "notify: [oncall]", "patience: 12s", "remind: 1s"))
	run := p.start(rotation.Manual)
	res := p.end(run)
	if res.Phase != rotation.RolledBack {
		t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
	}
	if got := about(p.told(simcloud.WebhookService, 5)); got != "needed reminder reminder reminder rolled-back" {
		t.Errorf("told: %s", got)
	}
	h, err := replaytest.Check(context.Background(), p.Client, run.GetID(), run.GetRunID())
	if err != nil {
		t.Fatal(err)
	}
	silent := newByHand(t, scenario.Options{Policy: append(slices.Clone(fast), "patience: 12s")})
	alone := silent.start(rotation.Manual)
	silent.end(alone)
	without, err := replaytest.Check(context.Background(), silent.Client, alone.GetID(), alone.GetRunID())
	if err != nil {
		t.Fatal(err)
	}
	extra := len(h.GetEvents()) - len(without.GetEvents())
	t.Logf("%d events, %d without a channel", len(h.GetEvents()), len(without.GetEvents()))
	if extra <= 0 || extra >= 60 {
		t.Errorf("telling cost %d events; fewer than 60 are allowed", extra)
	}
}

func TestAWorkerThatDiesWhileItTellsTellsAtMostTwiceWithTheSameID(t *testing.T) {
	t.Parallel()
	for moment, again := range map[string]int{"Notify/before": 0, "Notify/after": 1} {
		t.Run(moment, func(t *testing.T) {
			t.Parallel()
			p := newByHand(t, channels(t, "notify: [oncall]"), moment)
			run := p.start(rotation.Manual)
			// It is known that it was told only when the try that died has timed out and another one has succeeded.
			p.heard(rotation.EventNeeded, rotation.AwaitingKey)
			id, v := p.supply()
			p.revoke()
			p.replacedBy(p.end(run), id, v)
			p.told(simcloud.WebhookService, 3)
			count := map[string]int{}
			for _, m := range p.Post.Messages() {
				count[m.ID]++
			}
			twice := 0
			for _, n := range count {
				twice += n - 1
			}
			if len(count) > 3 || twice != again {
				t.Errorf("told %v: three things, %d of them twice", count, again)
			}
		})
	}
}

func TestAWorkerThatIsDownOverTheDeadlineTellsOnceThatItRolledBack(t *testing.T) {
	t.Parallel()
	p := newByHand(t, channels(t, "notify: [oncall]", "patience: 10s", "remind: 2s"))
	run := p.start(rotation.Manual)
	p.told(simcloud.WebhookService, 1)
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	p.heard(rotation.EventNeeded, rotation.AwaitingKey)
	p.WithoutWorker(func() {
		for time.Now().Before(s.Deadline.Add(time.Second)) {
			time.Sleep(20 * time.Millisecond)
		}
	})
	res := p.end(run)
	if res.Phase != rotation.RolledBack {
		t.Errorf("it ended as %s: %s", res.Phase, res.Outcome)
	}
	var after []simcloud.Message
	for end := time.Now().Add(time.Minute); time.Now().Before(end) && len(after) == 0; time.Sleep(20 * time.Millisecond) {
		for _, m := range p.Post.Messages() {
			if !m.Again && m.At.After(s.Deadline) {
				after = append(after, m)
			}
		}
	}
	if about(after) != "rolled-back" {
		t.Errorf("told after the deadline: %s", about(after))
	}
}

// heard waits until the rotation knows that a channel was told about something.
func (w *env) heard(about rotation.Event, p rotation.Phase) {
	w.Helper()
	var last rotation.Status
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		s, err := w.status()
		if last = s; err == nil && s.Phase == p && len(s.Deliveries) > 0 && s.Deliveries[0].Event == about && s.Deliveries[0].Problem == "" {
			return
		}
	}
	w.Fatalf("the rotation never knows that it has told: %+v", last)
}
