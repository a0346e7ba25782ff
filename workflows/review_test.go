package workflows_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

func TestADisableWhoseReplyIsLostIsUndoneByARollBack(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.whenStarted("Revoke", func() {
		r.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "DisableServiceAccountKey", Times: 7, Kind: simcloud.LoseReply})
	})
	// By then the step has been tried in vain, and the key is disabled all the same.
	r.after(2*day+25*time.Second, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	r.unchanged(r.run())
}

func TestARollBackThatWasSentBeforeTheTimerFiredWins(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	// The soak ends at the very moment at which the signal is there: Temporal delivers both in one workflow task.
	r.after(2*day+59*time.Minute, func() {
		s := r.status()
		if s.Phase != rotation.Revoke {
			t.Errorf("phase %s, want revoke", s.Phase)
		}
		r.env.SignalWorkflowSkippingWorkflowTask(string(rotation.RollBack), rotation.DecisionMessage{By: "operator", Why: "test"})
	})
	r.unchanged(r.run())
}

func TestAnExtensionWhileTheGuardLooksIsHonoured(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores().policy(quick))
	begin := r.now()
	r.whenStarted("Guard", func() {
		r.signal(rotation.ExtendGrace, rotation.DecisionMessage{By: "o", Why: "w", For: rotation.Duration(day)})
	})
	res := r.run()
	r.replaced(res)
	if took := res.EndedAt.Sub(begin); took < 3*day {
		t.Errorf("it took %s: the extension was lost", took)
	}
}

func TestAnApprovalOfOneRevokeDoesNotApproveTheOther(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores().policy("approve: true"))
	r.after(3*day, func() { r.signal(rotation.Approve, rotation.DecisionMessage{}) })
	// During the soak somebody wants the old key back; the new one is then the one to revoke.
	r.after(3*day+30*time.Minute, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	asked := false
	r.after(6*day, func() {
		asked = r.status().Details != "" && strings.Contains(r.status().Details, "Decision needed")
		r.signal(rotation.Approve, rotation.DecisionMessage{})
	})
	r.unchanged(r.run())
	if !asked {
		t.Error("nobody was asked about the new key")
	}
}

func TestWhileAStoreIsForbiddenTheHistoryStaysShort(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.whenStarted("Create", func() {
		r.Cloud.Inject(simcloud.Fault{Service: "secret-manager", Method: "UpdateSecret", Kind: simcloud.Refuse, Code: 403})
	})
	r.after(10*day, func() {
		if s := r.status(); !s.Overdue || !strings.Contains(s.Details, "Overdue") {
			t.Errorf("blocked for ten days, and nobody sees that it is overdue:\n%s", s.Details)
		}
		r.signal(rotation.RollBack, rotation.DecisionMessage{})
	})
	r.after(day, func() {
		if n := strings.Count(strings.Join(r.started, " "), "Create"); n > 150 {
			t.Errorf("%d attempts in a day", n)
		}
		if s := r.status(); !strings.Contains(s.Details, "tries again by itself") || strings.Contains(s.Details, "do nothing") {
			t.Errorf("the details mislead:\n%s", s.Details)
		}
	})
	res := r.run()
	if res.Phase != rotation.RolledBack || len(r.Cloud.LiveKeys()) != 1 {
		t.Errorf("%s with keys %v", res.Phase, r.Cloud.LiveKeys())
	}
}

func TestARollBackGivesTheOldValueToAStoreThatNeverHadIt(t *testing.T) {
	t.Parallel()
	r := newFixture(t, setup{stores: []string{scenario.Alias}})
	// The second store was added to the key just before this rotation: it is empty.
	for _, id := range []string{"new-place", "new-place-rekey-pending"} {
		if err := r.SM.CreateSecret(id, secret.Value{}); err != nil {
			t.Fatal(err)
		}
	}
	r.key.Stores = append(r.key.Stores, rotation.Location{Store: scenario.Latest, Path: "new-place"})
	r.in.Key, r.acts.Allow = r.key, func(rotation.Key) error { return nil }
	r.after(day, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
	res := r.run()
	if res.Phase != rotation.RolledBack || !r.live(r.oldID) || len(r.Cloud.LiveKeys()) != 1 {
		t.Errorf("%s: %s; live: %v", res.Phase, res.Outcome, r.Cloud.LiveKeys())
	}
	for i, l := range r.key.Stores {
		v, err := r.acts.Stores[l.Store].Published(context.Background(), l.Path)
		if err != nil || !v.Equal(r.First("ci")) {
			t.Errorf("store %d gives applications %v, %v; want the old value", i, v, err)
		}
	}
}

func TestASuppliedKeyIsNotTakenOverTheClaimOfAnotherInstallation(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	r.after(time.Hour, func() {
		s := r.acts.Stores[scenario.Alias]
		snap, err := s.Load(context.Background(), "gpt")
		if err == nil {
			snap.Install = "other1"
			_, err = s.Save(context.Background(), "gpt", snap)
		}
		if err != nil {
			t.Error(err)
		}
		r.supply()
	})
	r.after(2*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingApproval || !strings.Contains(s.Details, "other1") {
			t.Errorf("phase %s\n%s", s.Phase, s.Details)
		}
		r.signal(rotation.Approve, rotation.DecisionMessage{})
	})
	r.after(5*day, func() {
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
}

func TestAKeyThatWasSuppliedInVainIsLeftToAPerson(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	r.after(time.Hour, func() {
		_, v := r.OpenAI.CreateKey("proj_other", "x")
		n, err := r.SM.AddVersion("gpt", v)
		if err != nil {
			t.Error(err)
		}
		r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: itoa(n)})
	})
	r.after(2*time.Hour, func() { r.supply() })
	r.after(5*day, func() {
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	res := r.run()
	if len(res.FollowUps) != 1 || !strings.Contains(res.FollowUps[0], "Version 2 was supplied and not used") {
		t.Errorf("left: %v", res.FollowUps)
	}
}

func TestAnOlderKeyThatIsGoneTakesNoSoakFromTheOldOne(t *testing.T) {
	r := newFixture(t, bothStores())
	// A terminated rotation has left a key to revoke, and somebody has deleted it since.
	ctx, l := context.Background(), r.key.Stores[0]
	snap, err := r.acts.Stores[l.Store].Load(ctx, l.Path)
	if err != nil {
		t.Fatal(err)
	}
	snap.Duties = append(snap.Duties, store.Duty{KeyID: strings.Repeat("0", 40), Fingerprint: "000000000000"})
	if _, err := r.acts.Stores[l.Store].Save(ctx, l.Path, snap); err != nil {
		t.Fatal(err)
	}
	r.replaced(r.run())
	var disabled, deleted time.Time
	for _, e := range r.Cloud.Journal() {
		switch {
		case e.KeyID == r.oldID && e.Kind == simcloud.KeyDisabled:
			disabled = e.At
		case e.KeyID == r.oldID && e.Kind == simcloud.KeyDeleted:
			deleted = e.At
		}
	}
	if soaked := deleted.Sub(disabled); disabled.IsZero() || soaked < time.Hour {
		t.Errorf("the old key was deleted %v after it was disabled, want an hour at least", soaked)
	}
}

func TestAKeyThatAPersonMayJustHaveRevokedIsNotGoneBackTo(t *testing.T) {
	for sentence, says := range map[string]bool{"the person says so": true, "nobody says so": false} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, manualKey())
			r.Cloud.SetTiming(simcloud.Timing{RevocationLag: 50 * time.Second})
			r.after(time.Hour, func() { r.supply() })
			r.after(3*day, func() {
				if s := r.status(); s.Phase != rotation.AwaitingRevocation {
					t.Errorf("phase %s, want awaiting-revocation", s.Phase)
				}
				// The provider accepts it for some seconds more.
				if err := r.OpenAI.DeleteKey(r.oldID); err != nil {
					t.Error(err)
				}
				if says {
					r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
				}
			})
			r.after(3*day+5*time.Second, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
			// It cannot be gone back to; whoever is asked gives it up.
			r.after(4*day, func() { r.signal(rotation.Approve, rotation.DecisionMessage{}) })
			r.after(8*day, func() { r.signal(rotation.KeyRevoked, rotation.DecisionMessage{}) })
			res := r.run()
			if res.Phase != rotation.Completed {
				t.Errorf("%s: %s", res.Phase, res.Outcome)
			}
			for _, broken := range r.Cloud.Check(r.rules) {
				t.Error(broken)
			}
		})
	}
}
