package workflows_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/iam/admin/apiv1/adminpb"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/workflows"
)

// through runs the rotation, and those that follow it in the same workflow, to the end. It returns how many followed.
func (r *fixture) through() (res rotation.Result, followed int) {
	r.Helper()
	for followed = 0; followed < 5; followed++ {
		r.env.ExecuteWorkflow(workflows.RotateKey, r.in)
		var again *workflow.ContinueAsNewError
		if err := r.env.GetWorkflowError(); err == nil {
			if err := r.env.GetWorkflowResult(&res); err != nil {
				r.Fatal(err)
			}
			r.invariants()
			return res, followed
		} else if !errors.As(err, &again) {
			r.Fatalf("the run ended with %v", err)
		}
		r.takeUp(again)
	}
	r.Fatal("rotations follow each other without end")
	return res, followed
}

// leak returns what of the journal's keys was made before this moment.
func (r *fixture) made() []string {
	var ids []string
	for _, e := range r.Cloud.Journal() {
		if e.Kind == simcloud.KeyCreated {
			ids = append(ids, e.KeyID)
		}
	}
	return ids
}

// allGone checks that every key of the list is dead and that applications read another one.
func (r *fixture) allGone(res rotation.Result, leaked []string) {
	r.Helper()
	if res.Phase != rotation.Completed || len(res.FollowUps) > 0 {
		r.Errorf("it ended as %s: %s %v", res.Phase, res.Outcome, res.FollowUps)
	}
	for _, id := range leaked {
		if r.live(id) {
			r.Errorf("%s leaked and is still live", id)
		}
	}
	if got := r.published(); slices.Contains(leaked, got) {
		r.Errorf("applications read %s, which leaked", got)
	}
	if n := len(r.Cloud.LiveKeys()); n != 1 {
		r.Errorf("%d keys are live, want one", n)
	}
}

func TestAnEmergencyThatComesAtAnyMomentEndsWithAllThatLeakedRefused(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		during   string
		rollBack string // when a roll-back is asked for, before
		policy   []string
		follows  int
	}{
		"while it looks, it becomes an emergency itself":        {during: "Prepare"},
		"while it mints, the key of that mint counts as leaked": {during: "Create", follows: 1},
		"while it stores":   {during: "Store", follows: 1},
		"while it verifies": {during: "Verify", follows: 1},
		"while it promotes, the published key goes, too": {during: "Promote", follows: 1},
		"in grace": {during: "CheckHealth", follows: 1},
		"while it asks whether the old key is in use":            {during: "Guard", follows: 1},
		"while it disables the old key":                          {during: "Revoke", follows: 1},
		"while it deletes the old key":                           {during: "Revoke", policy: []string{quick}, follows: 1},
		"while it proves that the old key is refused":            {during: "Confirm", follows: 1},
		"while it clears the stores":                             {during: "Retire", follows: 1},
		"while it discards the new key to roll back":             {during: "Discard", rollBack: "Store", follows: 1},
		"on its way back it does not reach the key that leaked":  {during: "Verify", rollBack: "CheckHealth", follows: 1},
		"when it has just come back to the key that leaked":      {during: "Retire", rollBack: "CheckHealth", follows: 1},
		"in the middle of the way back, while stores may differ": {during: "Promote", rollBack: "CheckHealth", follows: 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, bothStores().policy(tc.policy...))
			var leaked []string
			raise := func() {
				leaked = r.made()
				// What leaked may go while applications read it in one store already: no grace.
				r.rules.MayDie = leaked
				r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{ID: "e1", By: "operator", Why: "leaked"})
			}
			if tc.rollBack == "" {
				r.whenStarted(tc.during, raise)
			} else {
				r.whenStarted(tc.rollBack, func() {
					r.signal(rotation.RollBack, rotation.DecisionMessage{})
					r.whenStarted(tc.during, raise)
				})
			}
			res, followed := r.through()
			if leaked == nil {
				t.Fatal("the step was never reached")
			}
			if followed != tc.follows {
				t.Errorf("%d rotations followed, want %d", followed, tc.follows)
			}
			if res.Reason != rotation.Emergency {
				t.Errorf("the reason is %s", res.Reason)
			}
			r.allGone(res, leaked)
		})
	}
}

func TestAnEmergencyThatNamesTheOldKeyHurriesTheRotationThatReplacesIt(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	var at time.Time
	r.after(day, func() {
		at = r.now()
		r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{ID: "e1", By: "o", Why: "w", Leaked: []string{r.First("ci").Fingerprint()}})
	})
	res, followed := r.through()
	if followed != 0 || len(r.made()) != 2 {
		t.Errorf("%d followed and %d keys were made; the key that was new already replaces the one that leaked", followed, len(r.made()))
	}
	if took := res.EndedAt.Sub(at); took > 10*time.Minute {
		t.Errorf("the old key was revoked %s after the emergency", took)
	}
	r.replaced(res)
}

func TestAnEmergencyThatNamesTheNewKeyIsServedByAnotherRotation(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.after(day, func() {
		r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{ID: "e1", By: "o", Why: "w", Leaked: []string{r.status().New}})
	})
	res, followed := r.through()
	if followed != 1 || len(r.made()) != 3 {
		t.Errorf("%d followed, %d keys were made", followed, len(r.made()))
	}
	r.allGone(res, r.made()[:2])
}

func TestARepeatedEmergencyIsOneEmergency(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.in.Reason = rotation.Emergency
	m := rotation.DecisionMessage{ID: "e1", By: "o", Why: "w"}
	r.in.Emergencies = []rotation.Decision{{DecisionMessage: m}}
	for _, during := range []string{"Prepare", "Create", "Promote", "Retire"} {
		r.whenStarted(during, func() { r.signal(rotation.RaiseEmergency, m) })
	}
	res, followed := r.through()
	if followed != 0 || len(res.Decisions) != 1 {
		t.Errorf("%d followed, decisions %v", followed, res.Decisions)
	}
	r.replaced(res)
}

func TestAnEmergencyAboutAValueThatIsNotLiveChangesNothing(t *testing.T) {
	t.Parallel()
	r := newFixture(t, setup{stores: []string{scenario.Alias}})
	r.in.Reason = rotation.Emergency
	id, forgotten := r.forgotten()
	if _, err := r.IAM.DeleteServiceAccountKey(context.Background(), &adminpb.DeleteServiceAccountKeyRequest{
		Name: "projects/-/serviceAccounts/" + scenario.Account("ci") + "/keys/" + id,
	}); err != nil {
		t.Fatal(err)
	}
	r.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", Leaked: []string{forgotten.Fingerprint()}}}}
	res := r.run()
	if !res.NotDue || !strings.Contains(res.Outcome, "not live") || res.Unknown || r.published() != r.oldID {
		t.Errorf("%+v", res)
	}
}

func TestAnEmergencyAboutAValueThatNobodyKnowsSaysSo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		named func(r *fixture) string
		says  string
	}{
		"a mistyped fingerprint":                {func(*fixture) string { return "0123456789ab" }, "mistyped"},
		"a key of the account that is not ours": {func(r *fixture) string { id, _ := r.foreign(); return id }, "Revoke it yourself"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newFixture(t, bothStores())
			r.in.Reason = rotation.Emergency
			r.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", Leaked: []string{c.named(r)}}}}
			res := r.run()
			if !res.NotDue || !res.Unknown || !strings.Contains(res.Outcome, c.says) || len(res.FollowUps) != 1 || r.published() != r.oldID {
				t.Errorf("%+v", res)
			}
		})
	}
}

func TestAnEmergencyAboutAKeyThatATerminatedRotationLeftRevokesOnlyThat(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.after(day, func() { r.env.SetContinueAsNewSuggested(true) })
	r.goOn()
	// The rotation is terminated in grace; the old key stands as previous.
	r.in = workflows.Input{Key: r.key, Reason: rotation.Emergency, By: "o", Emergencies: []rotation.Decision{
		{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", Leaked: []string{r.First("ci").Fingerprint()}}},
	}}
	res := r.run()
	if len(r.made()) != 2 {
		t.Errorf("%d keys were made; the current one did not leak", len(r.made()))
	}
	r.replaced(res)
}

// foreign makes a key of the account that no store knows.
func (r *fixture) foreign() (id string, value secret.Value) {
	r.Helper()
	id, value, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		r.Fatal(err)
	}
	return id, value
}

// forgotten makes a live key whose value is in the store under no stage.
func (r *fixture) forgotten() (id string, value secret.Value) {
	r.Helper()
	id, value = r.foreign()
	s := r.acts.Stores[scenario.Alias]
	snap, err := s.Load(context.Background(), "ci")
	if err == nil {
		_, err = s.Save(context.Background(), "ci", snap) // sets the alias that applications read by
	}
	if err == nil {
		_, err = s.Add(context.Background(), "ci", value)
	}
	if err != nil {
		r.Fatal(err)
	}
	return id, value
}

func TestAnEmergencyFindsWhatStandsUnderNoStageAnyMore(t *testing.T) {
	t.Parallel()
	r := newFixture(t, setup{stores: []string{scenario.Alias}})
	id, _ := r.forgotten()
	r.in.Reason = rotation.Emergency
	res := r.run()
	r.replaced(res)
	if r.live(id) || len(res.Revoked) != 2 {
		t.Errorf("the forgotten key is live: %t; revoked: %v", r.live(id), res.Revoked)
	}
}

func TestRevokeFirstContainsBeforeThereIsANewKey(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.rules.MayDie = []string{r.oldID}
	r.in.Reason = rotation.Emergency
	r.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", RevokeFirst: true}}}
	r.replaced(r.run())
	var order []simcloud.EventKind
	for _, e := range r.Cloud.Journal() {
		if e.Kind == simcloud.KeyDisabled && e.KeyID == r.oldID || e.Kind == simcloud.KeyDeleted && e.KeyID == r.oldID || e.Kind == simcloud.KeyCreated && e.KeyID != r.oldID {
			order = append(order, e.Kind)
		}
	}
	if want := []simcloud.EventKind{simcloud.KeyDisabled, simcloud.KeyCreated, simcloud.KeyDeleted}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

func TestRevokeFirstOnlyGoesForward(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.rules.MayDie = []string{r.oldID}
	r.in.Reason = rotation.Emergency
	r.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", RevokeFirst: true}}}
	remove := r.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
	r.after(time.Hour, func() {
		s := r.status()
		if s.Phase != rotation.AwaitingApproval || slices.Contains(s.Accepts, rotation.RollBack) || slices.Contains(s.Accepts, rotation.Reject) {
			t.Errorf("phase %s accepts %v", s.Phase, s.Accepts)
		}
		remove()
		r.signal(rotation.Approve, rotation.DecisionMessage{})
	})
	r.replaced(r.run())
}

func TestRevokeFirstByHandAsksForTheRevocationThenForTheKey(t *testing.T) {
	t.Parallel()
	r := newFixture(t, manualKey())
	r.rules.MayDie = []string{r.oldID}
	r.in.Reason = rotation.Emergency
	r.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", RevokeFirst: true}}}
	r.after(time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingRevocation || !strings.Contains(s.Details, "leaked") {
			t.Errorf("phase %s\n%s", s.Phase, s.Details)
		}
		_ = r.OpenAI.DeleteKey(r.oldID)
		r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
	})
	r.after(2*time.Hour, func() {
		if s := r.status(); s.Phase != rotation.AwaitingKey {
			t.Errorf("phase %s\n%s", s.Phase, s.Details)
		}
		r.supply()
	})
	r.replaced(r.run())
}

func TestAnEmergencyWithAGraceKeepsTheLeakedKeyThatLongAndNoLonger(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.in.Reason = rotation.Emergency
	r.in.Emergencies = []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{By: "o", Why: "w", For: rotation.Duration(2 * time.Hour)}}}
	res := r.run()
	r.replaced(res)
	if kept := res.RevokedAt.Sub(res.PublishedAt); kept < 2*time.Hour || kept > 2*time.Hour+10*time.Minute {
		t.Errorf("the leaked key was kept for %s", kept)
	}
}

func TestAnEmergencyThatRollsBackSaysThatItIsNotDone(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores())
	r.in.Reason = rotation.Emergency
	r.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 400})
	res := r.run()
	r.unchanged(res)
	if !strings.Contains(strings.Join(res.FollowUps, " "), "NOT DONE") {
		t.Errorf("left: %v", res.FollowUps)
	}
}

func TestAnEmergencyEndsAWaitForApproval(t *testing.T) {
	t.Parallel()
	r := newFixture(t, bothStores().policy("approve: true"))
	r.after(3*day, func() {
		if s := r.status(); s.Phase != rotation.AwaitingApproval {
			t.Errorf("phase %s", s.Phase)
		}
		r.signal(rotation.RaiseEmergency, rotation.DecisionMessage{ID: "e", By: "o", Why: "w", Leaked: []string{r.First("ci").Fingerprint()}})
	})
	res, followed := r.through()
	if followed != 0 {
		t.Errorf("%d followed", followed)
	}
	r.replaced(res)
}
