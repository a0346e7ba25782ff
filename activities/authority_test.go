package activities_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// stranger is a key of the account that somebody else made.
func (r *fixture) stranger() string {
	r.Helper()
	minted, err := r.acts.Providers["google"].Mint(context.Background(), r.key.Account, rotation.Stamp{Install: "other1", Key: "other", Rotation: r3, Attempt: 1}.String())
	if err != nil {
		r.Fatal(err)
	}
	r.rules.Foreign = append(r.rules.Foreign, minted.ID)
	return minted.ID
}

func TestWhatOnlyAnInputNamesIsNeverTakenAwayOrGivenToApplications(t *testing.T) {
	for sentence, c := range map[string]struct {
		attack func(r *fixture, n, old activities.Ref, stranger string) error
		code   string
	}{
		"a delete of a key that rekey never made": {func(r *fixture, _, _ activities.Ref, stranger string) error {
			return r.revoke(r1, activities.DeleteKey, activities.Ref{KeyID: stranger, Numbers: []string{"", ""}})
		}, activities.UnknownValue},
		"a delete of such a key under the fingerprint of the old one": {func(r *fixture, _, old activities.Ref, stranger string) error {
			old.KeyID = stranger
			return r.revoke(r1, activities.DeleteKey, old)
		}, activities.UnknownValue},
		"a delete of such a key as what leaked": {func(r *fixture, _, old activities.Ref, stranger string) error {
			old.KeyID = stranger
			_, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: []activities.Ref{old}, Mode: activities.DeleteKey, Contain: true, Emergency: "mallory"})
			return err
		}, activities.UnknownValue},
		"a disable of such a key": {func(r *fixture, _, _ activities.Ref, stranger string) error {
			return r.revoke(r1, activities.DisableKey, activities.Ref{KeyID: stranger, Fingerprint: strings.Repeat("a", 12), Numbers: []string{"", ""}})
		}, activities.UnknownValue},
		"an enable of such a key": {func(r *fixture, _, _ activities.Ref, stranger string) error {
			return r.revoke(r1, activities.EnableKey, activities.Ref{KeyID: stranger, Numbers: []string{"", ""}})
		}, activities.UnknownValue},
		"a promise to revoke such a key under the fingerprint of the old one": {func(r *fixture, n, old activities.Ref, stranger string) error {
			old.KeyID = stranger
			_, err := r.tryPromote(r1, n, old)
			return err
		}, activities.UnknownValue},
		"the end of a promise that was not kept": {func(r *fixture, _, old activities.Ref, _ string) error {
			_, err := r.tryRetire(r1, old)
			return err
		}, activities.StillLive},
		"a delete of the key that applications read": {func(r *fixture, n, _ activities.Ref, _ string) error {
			return r.revokeKeeping(r1, activities.DeleteKey, n, n)
		}, activities.StillStaged},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias, scenario.Latest))
			stranger := r.stranger()
			n, old := r.published(r1)
			before := r.revisions()
			_ = r.fails(c.attack(r, n, old[0], stranger), fault.Rejected, c.code)
			if after := r.revisions(); !slices.Equal(before, after) {
				t.Error("a record was changed")
			}
			r.keys(r.oldID, n.KeyID, stranger)
			if v, err := r.acts.Stores[scenario.Alias].Read(context.Background(), "ci", old[0].Numbers[0]); err != nil || v.IsEmpty() {
				t.Errorf("the old value is gone: %v", err)
			}
		})
	}
}

func TestAPromiseToRevokeWhatNobodyKnowsIsNotWrittenDown(t *testing.T) {
	r := newFixture(t, google(scenario.Alias, scenario.Latest))
	stranger := r.stranger()
	n, old := r.published(r1)
	out, err := r.tryPromote(r1, n, old[0], activities.Ref{KeyID: stranger, Fingerprint: strings.Repeat("a", 12), Numbers: []string{"", ""}})
	if err != nil || !slices.Equal(out.Unknown, []string{stranger}) {
		t.Errorf("%+v, %v", out, err)
	}
	for i := range r.key.Stores {
		if d := r.record(i).Duties; len(d) != 1 || d[0].KeyID != r.oldID {
			t.Errorf("the duties in store %d: %+v", i, d)
		}
	}
}

func TestApplicationsAreGivenOnlyWhatThisRotationStagedOrTheyReadBefore(t *testing.T) {
	for sentence, c := range map[string]struct {
		to   func(r *fixture, n activities.Ref) activities.Ref
		code string
	}{
		"a version that somebody added and no record names": {func(r *fixture, _ activities.Ref) activities.Ref {
			minted, err := r.acts.Providers["google"].Mint(context.Background(), r.key.Account, rotation.Stamp{Install: "other1", Key: "other", Rotation: r3, Attempt: 1}.String())
			if err != nil {
				r.Fatal(err)
			}
			r.rules.Foreign = append(r.rules.Foreign, minted.ID)
			number, err := r.acts.Stores[scenario.Alias].Add(context.Background(), "ci", minted.Value)
			if err != nil {
				r.Fatal(err)
			}
			return activities.Ref{KeyID: minted.ID, Fingerprint: minted.Value.Fingerprint(), Numbers: []string{number}}
		}, activities.UnknownValue},
		"what another rotation has pending": {func(r *fixture, n activities.Ref) activities.Ref {
			r.write(0, func(s *store.Snapshot) {
				p := *s.Pending
				p.Rotation, s.Pending = r2, &p
			})
			return n
		}, activities.UnknownValue},
		"its own key, which the provider refuses": {func(r *fixture, n activities.Ref) activities.Ref {
			r.rules.MayDie = append(r.rules.MayDie, n.KeyID)
			if err := r.acts.Providers["google"].Delete(context.Background(), r.key.Account, n.KeyID); err != nil {
				r.Fatal(err)
			}
			return n
		}, "refused"},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			p, err := r.prepare(r1, rotation.Manual)
			if err != nil {
				t.Fatal(err)
			}
			to := c.to(r, r.create(r1))
			before := r.revisions()
			_, err = r.tryPromote(r1, to, p.Old...)
			_ = r.fails(err, fault.Rejected, c.code)
			if after := r.revisions(); !slices.Equal(before, after) {
				t.Error("a record was changed")
			}
			if _, err := r.acts.Store(context.Background(), activities.StoreInput{Target: r.target(r1), New: to}); c.code == activities.UnknownValue {
				_ = r.fails(err, fault.Rejected, c.code)
			}
		})
	}
}

func TestWhatWasSignedLongAgoOrForAnEarlierPromiseIsNoApproval(t *testing.T) {
	for sentence, later := range map[string]func(*fixture){
		"signed more than a month ago": func(r *fixture) { r.Advance(31 * 24 * time.Hour) },
		"the same key is to be revoked again": func(r *fixture) {
			r.Advance(24 * time.Hour)
			for i := range r.key.Stores {
				r.write(i, func(s *store.Snapshot) { s.Duties[0].Since = r.Now() })
			}
		},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, underFourEyes(t, "alice", "bob"))
			n, old := r.published(r1)
			approval := r.approvalBy(nil, "alice", "bob")
			later(r)
			_, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: activities.DeleteKey, Approval: approval})
			f := r.fails(err, fault.Rejected, activities.FourEyes)
			if !strings.Contains(f.Advice, "older than") {
				t.Errorf("the advice: %s", f.Advice)
			}
			if !r.live(r.oldID) {
				t.Error("the key is gone")
			}
		})
	}
}

func TestChangesAreOnlyForTheKeysOwnRotation(t *testing.T) {
	for sentence, c := range map[string]struct {
		workflow, id string
		refused      bool
	}{
		"its rotation":               {"RotateKey", activities.WorkflowID("ci"), false},
		"the rotation of another":    {"RotateKey", activities.WorkflowID("other"), true},
		"a workflow of another type": {"Mine", activities.WorkflowID("ci"), true},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, google(scenario.Alias))
			suite := &testsuite.WorkflowTestSuite{}
			suite.SetLogger(silent)
			env := suite.NewTestWorkflowEnvironment()
			env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: c.id})
			env.RegisterActivityWithOptions(r.acts.Discard, activity.RegisterOptions{Name: "Discard"})
			env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
				ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 1}})
				return workflow.ExecuteActivity(ctx, "Discard", activities.DiscardInput{Target: r.target(r1)}).Get(ctx, nil)
			}, workflow.RegisterOptions{Name: c.workflow})
			r.create(r1)
			env.ExecuteWorkflow(c.workflow)
			if err := env.GetWorkflowError(); (err != nil) != c.refused || err != nil && !strings.Contains(err.Error(), activities.NotARotation) {
				t.Errorf("got %v", err)
			}
			if staged := r.record(0).Pending != nil; staged != c.refused {
				t.Errorf("the staged key is still there: %v", staged)
			}
		})
	}
}

func TestAValueThatNobodyKnowsIsNotTheOneWhoseVersionItNames(t *testing.T) {
	r := newFixture(t, google(scenario.Alias))
	made := activities.Ref{Fingerprint: "0123456789ab", Numbers: []string{r.record(0).Current.Number}}
	_, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: []activities.Ref{made}, Mode: activities.DisableKey, Contain: true, Emergency: "ada"})
	_ = r.fails(err, fault.Rejected, activities.UnknownValue)
	for _, e := range r.Cloud.Journal() {
		if e.Kind == simcloud.KeyDisabled {
			t.Errorf("%s was disabled", e.KeyID)
		}
	}
}

func TestWhatWasSignedForOneKeyLetsNoOtherOneGo(t *testing.T) {
	r := newFixture(t, underFourEyes(t, "alice", "bob"))
	n, old := r.published(r1)
	id, value, err := r.IAM.CreateForeignKey(scenario.Account("ci"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.key.Stores {
		r.write(i, func(s *store.Snapshot) {
			s.Duties = append(s.Duties, store.Duty{KeyID: id, Fingerprint: value.Fingerprint(), Rotation: r1, Since: r.Now()})
		})
	}
	other := activities.Ref{KeyID: id, Fingerprint: value.Fingerprint(), Numbers: []string{"", ""}}
	in := activities.RevokeInput{Target: r.target(r1), Keys: append(slices.Clone(old), other), Keep: n, Mode: activities.DeleteKey, Approval: r.approvalBy(nil, "alice", "bob")}
	_, err = r.tryRevoke(in)
	if f := r.fails(err, fault.Rejected, activities.FourEyes); !strings.Contains(f.Advice, "does not name the key "+id) {
		t.Errorf("the advice: %s", f.Advice)
	}
	r.keys(n.KeyID, r.oldID, id)
}

func TestASignatureCountsAlthoughTheClocksOfWorkerAndServerDiffer(t *testing.T) {
	r := newFixture(t, underFourEyes(t, "alice", "bob"))
	n, old := r.published(r1)
	approval := r.approvalBy(func(q *rotation.Question) { q.Asked = r.Now().Add(-4 * time.Minute) }, "alice", "bob")
	if _, err := r.tryRevoke(activities.RevokeInput{Target: r.target(r1), Keys: old, Keep: n, Mode: activities.DeleteKey, Approval: approval}); err != nil {
		t.Error(err)
	}
}
