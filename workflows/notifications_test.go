package workflows_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// friday is four o'clock in the afternoon, by the clocks of Berlin.
var friday = time.Date(2026, 11, 27, 15, 0, 0, 0, time.UTC)

// office are the hours of the team.
var office = []string{"days: [mon, tue, wed, thu, fri]", `from: "08:00"`, `to: "18:00"`, "zone: Europe/Berlin"}

// notifying is a key that a person creates and revokes, with a team that is notified and somebody on call.
func notifying(t *testing.T, policy ...string) setup {
	t.Helper()
	s := manualKey().policy(policy...)
	s.begin, s.opts.Channels, s.opts.Dir = friday, true, t.TempDir()
	return s
}

const (
	notifyTeam     = "notify: [team]"
	escalateOncall = "escalate: [oncall]"
)

// sent is what a channel got, in the order of time: how long after the beginning, and how the text begins.
func (r *fixture) sent(service string, begin time.Time) []string {
	var all []string
	for _, m := range r.Post.Messages() {
		if m.Service == service && !m.Again {
			head, _, _ := strings.Cut(m.Text, ":")
			all = append(all, m.At.Sub(begin).Truncate(time.Hour).String()+" "+head)
		}
	}
	return all
}

func (r *fixture) wantSaid(service string, begin time.Time, want ...string) {
	r.Helper()
	if got := r.sent(service, begin); !slices.Equal(got, want) {
		r.Errorf("%s got:\n  %s\nwant:\n  %s", service, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

const (
	needed   = " A person is needed"
	reminder = " Reminder, a person is needed"
	nobody   = " Nobody has answered, a person is needed"
	overdue  = " OVERDUE, a person is needed"
)

func TestATeamIsNotifiedRemindedAtGrowingIntervalsAndNotifiedOfTheEnd(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam))
	r.unchanged(r.run())
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "24h0m0s"+reminder, "72h0m0s"+reminder, "120h0m0s"+reminder, "168h0m0s Rolled back")
	first := r.Post.Messages()[0].Text
	for _, want := range []string{"gpt (openai, production, manual, awaiting-key)", "Create a new key for proj_gpt", "Until 2026-12-04 15:00 UTC. Then the rotation rolls back to the old key.", "rekey supply gpt"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is missing in:\n%s", want, first)
		}
	}
	if last := r.Post.Messages()[4].Text; !strings.Contains(last, "Nobody supplied a new key by 2026-12-04") {
		t.Errorf("how it ended:\n%s", last)
	}
}

func TestNobodyIsRemindedAtTheWeekend(t *testing.T) {
	t.Parallel()
	s := notifying(t, notifyTeam, "remind: 6h")
	s.opts.Quiet = office
	r := newFixture(t, s)
	r.unchanged(r.run())
	// Friday 16:00, Monday to Wednesday at 8:00, and Friday two days later; the deadline is that afternoon.
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "64h0m0s"+reminder, "88h0m0s"+reminder, "112h0m0s"+reminder, "160h0m0s"+reminder, "168h0m0s Rolled back")
}

func TestWhatEndsInQuietHoursEndsAtOnceAndIsNotifiedInTheMorning(t *testing.T) {
	t.Parallel()
	s := notifying(t, notifyTeam, "patience: 1d")
	s.opts.Quiet = office
	r := newFixture(t, s)
	res := r.run()
	r.unchanged(res)
	if took := res.EndedAt.Sub(friday); took < day || took > day+time.Hour {
		t.Errorf("it rolled back after %s; the deadline was a day", took)
	}
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "64h0m0s Rolled back")
}

func TestTheSecondChannelIsNotifiedWhenTheFirstDidNotHelp(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam, escalateOncall, "escalate_after: 2d"))
	r.after(3*day, func() {
		if s := r.status(); len(s.Deliveries) != 2 || !strings.Contains(s.Details, "Notified: team 2026-11-28 15:00 UTC; oncall 2026-11-29 15:00 UTC.") {
			t.Errorf("%+v\n%s", s.Deliveries, s.Details)
		}
	})
	r.unchanged(r.run())
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "24h0m0s"+reminder, "72h0m0s"+reminder, "120h0m0s"+reminder, "168h0m0s Rolled back")
	r.wantSaid(simcloud.WebhookService, friday, "48h0m0s"+nobody, "72h0m0s"+reminder, "120h0m0s"+reminder, "168h0m0s Rolled back")
	for _, m := range r.Post.Messages() {
		if m.Service == simcloud.WebhookService && m.Fields["event"] == "escalation" && !strings.Contains(m.Text, "Also notified: team") {
			t.Errorf("whoever is on call does not learn that the team knows:\n%s", m.Text)
		}
	}
}

func TestAfterTheAnswerNobodyIsRemindedAndTheEndIsNotified(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam, escalateOncall))
	r.after(time.Hour, func() { r.supply() })
	r.after(50*time.Hour, func() {
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
	// Oncall was never notified, so it is not notified of the end either.
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "49h0m0s"+needed, "50h0m0s Done")
	r.wantSaid(simcloud.WebhookService, friday)
}

func TestARotationThatNeedsNobodyTellsNobody(t *testing.T) {
	t.Parallel()
	s := bothStores().policy(notifyTeam)
	s.opts.Channels, s.opts.Dir = true, t.TempDir()
	r := newFixture(t, s)
	r.replaced(r.run())
	r.wantSaid(simcloud.SlackService, friday)
}

func TestARollBackIsNotifiedAlsoWhereNobodyWasAsked(t *testing.T) {
	t.Parallel()
	s := bothStores().policy(notifyTeam)
	s.opts.Channels, s.opts.Dir = true, t.TempDir()
	r := newFixture(t, s)
	begin := r.now()
	r.whenStarted("Verify", func() {
		r.signal(rotation.RollBack, rotation.DecisionMessage{By: "ana", Why: "the new key is sk-proj-aaaaaaaaaaaaaaaaaaaaaaaa"})
		r.signal(rotation.RollBack, rotation.DecisionMessage{By: "ana", Why: "not today"})
	})
	r.unchanged(r.run())
	r.wantSaid(simcloud.SlackService, begin, "0s Rolled back")
	if text := r.Post.Messages()[0].Text; !strings.Contains(text, "not today (ana)") {
		t.Errorf("why is missing:\n%s", text)
	}
}

func TestAChannelThatIsDownHoldsNothingAndIsShown(t *testing.T) {
	t.Parallel()
	for sentence, fault := range map[string]simcloud.Fault{
		"it refuses":         {Kind: simcloud.Refuse, Code: 503},
		"it does not answer": {Kind: simcloud.DropBefore},
		"it has no room":     {Kind: simcloud.Refuse, Code: 429, RetryAfter: 20 * time.Second},
		"it is gone":         {Kind: simcloud.Refuse, Code: 404},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, notifying(t, notifyTeam, escalateOncall, "escalate_after: 2h"))
			fault.Service = simcloud.SlackService
			r.Cloud.Inject(fault)
			r.after(3*time.Hour, func() {
				s := r.status()
				if !strings.Contains(s.Details, "team could not be notified: notify team") || !strings.Contains(s.Details, "; oncall 2026") {
					t.Errorf("the details do not say who could not be notified:\n%s", s.Details)
				}
				r.supply()
			})
			r.after(50*time.Hour, func() {
				if s := r.status(); s.Phase != rotation.Grace {
					t.Errorf("the rotation is held in %s", s.Phase)
				}
			})
			r.after(52*time.Hour, func() {
				_ = r.OpenAI.DeleteKey(r.oldID)
				r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
			})
			res := r.run()
			r.replaced(res)
			if took := res.EndedAt.Sub(friday); took > 53*time.Hour {
				t.Errorf("it took %s", took)
			}
			if calls := r.Cloud.Calls(simcloud.SlackService, "post"); calls > 40 {
				t.Errorf("the channel was tried %d times", calls)
			}
		})
	}
}

func TestAWorkerThatDoesNotHaveTheChannelSaysSo(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam))
	delete(r.notifier.Channels, scenario.Team)
	r.after(time.Hour, func() {
		if s := r.status(); !strings.Contains(s.Details, "This worker's rekey.yaml has no channel of that name") {
			t.Errorf("the details do not say so:\n%s", s.Details)
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.unchanged(r.run())
}

func TestAnAnswerThatIsLostTellsTwiceWithTheSameID(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, "notify: [oncall]", "patience: 1h"))
	r.Cloud.Inject(simcloud.Fault{Service: simcloud.WebhookService, Kind: simcloud.LoseReply, Times: 1})
	r.unchanged(r.run())
	var ids []string
	for _, m := range r.Post.Messages() {
		ids = append(ids, m.ID)
	}
	if len(ids) < 3 || ids[0] != ids[1] || slices.Contains(ids[2:], ids[0]) {
		t.Errorf("ids %v: the first twice, and no other", ids)
	}
	if distinct := len(slices.Compact(slices.Clone(ids))); distinct != len(ids)-1 {
		t.Errorf("ids %v are not one for each notice", ids)
	}
}

func TestAnEmergencyKnowsNoQuietTime(t *testing.T) {
	t.Parallel()
	t.Run("begun in it", func(t *testing.T) {
		s := notifying(t, notifyTeam)
		s.begin, s.opts.Quiet = friday.Add(6*time.Hour), office
		r := newFixture(t, s)
		r.in.Reason = rotation.Emergency
		r.unchangedWhateverIsLeft()
		if got := r.sent(simcloud.SlackService, s.begin); len(got) == 0 || got[0] != "0s"+needed {
			t.Errorf("sent %v", got)
		}
	})
	t.Run("raised in it", func(t *testing.T) {
		s := notifying(t, notifyTeam)
		s.begin, s.opts.Quiet = friday.Add(6*time.Hour), office
		r := newFixture(t, s)
		r.after(2*time.Hour, func() {
			if got := r.sent(simcloud.SlackService, s.begin); len(got) != 0 {
				t.Errorf("sent at night: %v", got)
			}
			r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{By: "ana", Why: "leaked", Leaked: []string{r.status().Old[0]}})
		})
		r.unchangedWhateverIsLeft()
		if got := r.sent(simcloud.SlackService, s.begin); len(got) == 0 || got[0] != "2h0m0s"+needed {
			t.Errorf("sent %v", got)
		}
	})
}

// unchangedWhateverIsLeft is for an emergency that nobody answered.
func (r *fixture) unchangedWhateverIsLeft() {
	r.Helper()
	if res := r.run(); res.Phase != rotation.RolledBack {
		r.Errorf("the rotation ended as %s", res.Phase)
	}
}

func TestOneMessageMovesDeadlineRemindersAndEscalation(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam, escalateOncall, "escalate_after: 4d"))
	r.after(time.Hour, func() {
		r.env.UpdateWorkflow(string(rotation.ExtendDeadline), "u1", &answer{T: t}, rotation.DecisionMessage{By: "ana", Why: "Kim is back on Monday", For: rotation.Duration(2 * day)})
	})
	r.after(2*time.Hour, func() {
		if s := r.status(); !s.Deadline.Equal(friday.Add(9 * day)) {
			t.Errorf("the deadline is %s", s.Deadline)
		}
	})
	res := r.run()
	r.unchanged(res)
	if took := res.EndedAt.Sub(friday); took < 9*day || took > 9*day+time.Hour {
		t.Errorf("it rolled back after %s", took)
	}
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "72h0m0s"+reminder, "120h0m0s"+reminder, "168h0m0s"+reminder, "216h0m0s Rolled back")
	r.wantSaid(simcloud.WebhookService, friday, "144h0m0s"+nobody, "168h0m0s"+reminder, "216h0m0s Rolled back")
}

func TestAWaitIsNotExtendedForEver(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t))
	r.after(time.Hour, func() {
		r.signal(rotation.ExtendDeadline, rotation.DecisionMessage{By: "ana", Why: "later", For: rotation.Duration(365 * day)})
	})
	r.after(2*time.Hour, func() {
		if s := r.status(); !s.Deadline.Equal(friday.Add(28 * day)) {
			t.Errorf("the deadline is %s", s.Deadline)
		}
		r.env.UpdateWorkflow(string(rotation.ExtendDeadline), "u1", &answer{T: t, refused: true}, rotation.DecisionMessage{By: "ana", Why: "later", For: rotation.Duration(day)})
	})
	if res := r.run(); res.EndedAt.Sub(friday) > 29*day {
		t.Errorf("it took %s", res.EndedAt.Sub(friday))
	}
}

func TestANoteIsHandedOver(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, "notify: [oncall]"))
	r.after(time.Hour, func() {
		r.env.UpdateWorkflow(string(rotation.AddNote), "u1", &answer{T: t, refused: true}, rotation.DecisionMessage{By: "ana", Why: "the key is sk-proj-aaaaaaaaaaaaaaaaaaaaaaaa"})
		r.env.UpdateWorkflow(string(rotation.AddNote), "u2", &answer{T: t}, rotation.DecisionMessage{By: "ana", Why: "asked Kim"})
		r.env.UpdateWorkflow(string(rotation.AddNote), "u3", &answer{T: t}, rotation.DecisionMessage{By: "ana", Why: "asked Kim; she has the console's password"})
	})
	r.after(2*time.Hour, func() {
		if s := r.status(); !strings.Contains(s.Details, "**Handed over** by ana, 2026-11-27 16:00 UTC: asked Kim; she has") || s.Phase != rotation.AwaitingKey {
			t.Errorf("phase %s\n%s", s.Phase, s.Details)
		}
	})
	r.unchanged(r.run())
	got := r.Post.Messages()
	if strings.Contains(got[0].Text, "Kim") || !strings.Contains(got[1].Text, "Note: ana: asked Kim; she has") || strings.Contains(got[1].Text, "sk-proj") {
		t.Errorf("sent:\n%s\n%s", got[0].Text, got[1].Text)
	}
}

func TestABlockedStepIsNotifiedOnceItHasADeadline(t *testing.T) {
	t.Parallel()
	s := bothStores().policy(notifyTeam)
	s.opts.Channels, s.opts.Dir = true, t.TempDir()
	r := newFixture(t, s)
	begin := r.now()
	remove := r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Kind: simcloud.Refuse, Code: 503})
	r.after(30*time.Hour, remove)
	r.replaced(r.run())
	got := r.sent(simcloud.SlackService, begin)
	if len(got) != 3 || got[0] != "0s"+needed || got[1] != "24h0m0s"+reminder || !strings.HasSuffix(got[2], "Done") {
		t.Errorf("sent %v", got)
	}
	if text := r.Post.Messages()[0].Text; !strings.Contains(text, "The rotation is blocked: ") {
		t.Errorf("why is missing:\n%s", text)
	}
}

func TestWhatIsOverdueIsNotifiedAndGoesOn(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam))
	r.after(time.Hour, func() { r.supply() })
	// Grace ends after 49 h; the deadline is a week later.
	r.after(12*day, func() {
		if s := r.status(); !s.Overdue || s.Phase != rotation.AwaitingRevocation {
			t.Errorf("phase %s, overdue %v", s.Phase, s.Overdue)
		}
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "49h0m0s"+needed, "73h0m0s"+reminder, "121h0m0s"+reminder, "169h0m0s"+reminder, "217h0m0s"+overdue, "265h0m0s"+overdue, "288h0m0s Done")
}

func TestAContinuedRotationTellsNothingTwiceAndKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, notifyTeam))
	r.after(26*time.Hour, func() { r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "99"}) })
	r.after(25*time.Hour, func() { r.env.SetContinueAsNewSuggested(true) })
	r.goOn()
	if got := len(r.Post.Messages()); got != 2 {
		t.Fatalf("%d messages before it was continued, want 2", got)
	}
	res := r.run()
	r.unchanged(res)
	if took := res.EndedAt.Sub(friday); took < 7*day || took > 7*day+time.Hour {
		t.Errorf("it rolled back after %s", took)
	}
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "24h0m0s"+reminder, "72h0m0s"+reminder, "120h0m0s"+reminder, "168h0m0s Rolled back")
}

func TestADeliveryUnderWayWhenTheRunIsContinuedIsSentAgainWithTheSameID(t *testing.T) {
	t.Parallel()
	r := newFixture(t, notifying(t, "notify: [oncall]"))
	remove := r.Cloud.Inject(simcloud.Fault{Service: simcloud.WebhookService, Kind: simcloud.LoseReply})
	r.after(time.Minute, func() {
		r.env.SetContinueAsNewSuggested(true)
		r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "99"})
	})
	r.goOn()
	remove()
	r.after(time.Hour, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.unchanged(r.run())
	ids := map[string]int{}
	for _, m := range r.Post.Messages() {
		ids[m.ID]++
	}
	if len(ids) != 2 {
		t.Errorf("ids %v, want one for the question and one for the end", ids)
	}
}

func TestAnEmergencyThatAnotherRotationServesNotifiesAnewAndTheEndGoesToAllThatWereNotified(t *testing.T) {
	t.Parallel()
	s := notifying(t, "notify: [oncall]")
	r := newFixture(t, s)
	r.after(time.Hour, func() {
		r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{By: "ana", Why: "the laptop is gone"})
	})
	r.goOn()
	if r.in.Carry == nil || r.in.Carry.Round != 1 {
		t.Fatalf("no other rotation follows: %+v", r.in.Carry)
	}
	if res := r.run(); res.Phase != rotation.RolledBack || res.EndedAt.Sub(friday) < 7*day+time.Hour {
		t.Errorf("it ended as %s after %s: the new wait has all its patience", res.Phase, res.EndedAt.Sub(friday))
	}
	r.wantSaid(simcloud.WebhookService, friday, "0s"+needed, "1h0m0s"+needed, "25h0m0s"+reminder, "73h0m0s"+reminder, "121h0m0s"+reminder, "169h0m0s Rolled back")
	ids := map[string]bool{}
	for _, m := range r.Post.Messages() {
		ids[m.ID] = true
	}
	if len(ids) != 6 {
		t.Errorf("ids %v: the second rotation repeats those of the first", ids)
	}
}

func TestAnApprovalRollsBackAtItsDeadlineWhoeverSleeps(t *testing.T) {
	t.Parallel()
	s := notifying(t, notifyTeam, "approve: true", "patience: 1d")
	s.opts.Quiet = office
	r := newFixture(t, s)
	var newID string
	r.after(time.Hour, func() { newID = r.supply() })
	// Asked on Sunday at five in the afternoon, notified on Monday at eight, rolled back on Monday at five.
	r.after(74*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.RollingBack {
			t.Errorf("phase %s", s.Phase)
		}
	})
	// The old key is current again, and the new one is to be revoked, by hand, at the end of another grace period: on
	// Wednesday, approved at once, done in the night to Thursday.
	r.after(121*time.Hour+30*time.Minute, func() { r.signal(rotation.Approve, rotation.DecisionMessage{}) })
	r.after(130*time.Hour, func() {
		_ = r.OpenAI.DeleteKey(newID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.unchanged(r.run())
	r.wantSaid(simcloud.SlackService, friday, "0s"+needed, "64h0m0s"+needed, "67h0m0s"+reminder, "121h0m0s"+needed, "121h0m0s"+needed, "136h0m0s Rolled back")
}
