package e2e

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// automatic are the activities of a rotation that needs no person.
var automatic = []string{"Prepare", "Create", "Store", "Verify", "Promote", "CheckHealth", "Guard", "Revoke", "Confirm", "Retire"}

func TestAWorkerKilledAroundAnyActivityLosesNothing(t *testing.T) {
	for _, activity := range automatic {
		for _, when := range []string{"before", "after"} {
			t.Run("killed just "+when+" "+activity, func(t *testing.T) {
				t.Parallel()
				policy := fast
				if activity == "CheckHealth" {
					policy = append([]string{"grace: 4s"}, fast[1:]...)
				}
				w := newTown(t, scenario.Options{Policy: policy}, envKill+"="+activity+"/"+when)
				w.replaced(w.end(w.start(rotation.Manual)))
				w.killed()
				w.noSecrets()
			})
		}
	}
}

func TestAWorkerKilledWhileARollBackDiscardsLosesNothing(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run("killed just "+when+" Discard", func(t *testing.T) {
			t.Parallel()
			w := newTown(t, scenario.Options{}, envKill+"=Discard/"+when)
			// The new key is never accepted.
			w.Cloud.Inject(simcloud.Fault{Service: "google-token", Except: w.oldID, Kind: simcloud.Refuse, Code: 400})
			run := w.start(rotation.Manual)
			w.waitFor(rotation.Verify)
			w.decide(rotation.RollBack)
			if res := w.end(run); res.Phase != rotation.RolledBack {
				t.Errorf("phase %s", res.Phase)
			}
			if live := w.Cloud.LiveKeys(); len(live) != 1 {
				t.Errorf("keys %v", live)
			}
			w.noSecrets()
		})
	}
}

func (w *town) decide(kind rotation.DecisionKind) {
	w.Helper()
	w.tell(kind, rotation.DecisionMessage{By: "e2e", Why: "the test says so"})
}

// tell sends a decision as an Update, which must be taken.
func (w *town) tell(kind rotation.DecisionKind, m rotation.DecisionMessage) {
	w.Helper()
	if err := w.tryTell(kind, m); err != nil {
		w.Fatalf("%s: %v", kind, err)
	}
}

func (w *town) tryTell(kind rotation.DecisionKind, m rotation.DecisionMessage) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	h, err := w.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: w.id(), UpdateID: m.ID, UpdateName: string(kind), WaitForStage: client.WorkflowUpdateStageCompleted, Args: []any{m},
	})
	if err == nil {
		err = h.Get(ctx, nil)
	}
	return err
}

func TestAMintWhoseReplyDiesWithTheWorkerLeavesOneKey(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{})
	reached, release := make(chan struct{}), make(chan struct{})
	w.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Times: 1, Kind: simcloud.CommitLate, Reached: reached, Release: release})
	run := w.start(rotation.Manual)
	<-reached
	w.kill()
	// The key is made after the process that asked for it has died.
	close(release)
	w.replaced(w.end(run))
	w.noSecrets()
}

func TestAMintThatTakesEffectAfterItsRetryIsSwept(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{})
	release, done := make(chan struct{}), make(chan struct{})
	w.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Times: 1, Kind: simcloud.CommitLate, Release: release, Done: done})
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	close(release)
	<-done
	w.replaced(w.end(run))
}

func TestATerminatedRotationsDutyIsInherited(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	if err := w.client.TerminateWorkflow(context.Background(), w.id(), "", "somebody clicked the wrong button"); err != nil {
		t.Fatal(err)
	}
	if len(w.Cloud.LiveKeys()) != 2 {
		t.Fatal("the old key is gone already: the test proves nothing")
	}
	// The next beat finds a fresh key and an old one that nobody revoked.
	minted := w.Cloud.Calls("google-iam", "UploadServiceAccountKey")
	run := w.start(rotation.Scheduled)
	w.waitFor(rotation.Grace)
	w.decide(rotation.FinishGrace)
	res := w.end(run)
	w.replaced(res)
	if w.Cloud.Calls("google-iam", "UploadServiceAccountKey") != minted {
		t.Error("a second key was minted for a duty")
	}
}

func TestAWorkflowResetToBeforePromoteMintsNothingNew(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	minted := w.Cloud.Calls("google-iam", "UploadServiceAccountKey")
	w.resetTo(run.GetRunID(), "Create")
	w.waitFor(rotation.Grace)
	w.decide(rotation.FinishGrace)
	w.replaced(w.end(w.client.GetWorkflow(context.Background(), w.id(), "")))
	if w.Cloud.Calls("google-iam", "UploadServiceAccountKey") != minted {
		t.Error("the reset minted another key")
	}
}

func TestOneKeyRotatesOnceAtATime(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	first := w.start(rotation.Manual)
	for range 5 {
		if again := w.start(rotation.Scheduled); again.GetRunID() != first.GetRunID() {
			t.Error("a second rotation of the same key runs")
		}
	}
	w.waitFor(rotation.Grace)
	w.decide(rotation.FinishGrace)
	w.replaced(w.end(first))
}

// Secret Manager allows two changes of a secret in a second; a rotation wants more.
func TestARotationWaitsOutTheQuotasOfTheStore(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{Quota: true})
	run := w.start(rotation.Manual)
	w.replaced(w.end(run))
}

func TestARollBackAfterPromoteGoesThroughReverse(t *testing.T) {
	t.Parallel()
	w := newTown(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	w.decide(rotation.RollBack)
	w.waitFor(rotation.RollingBack)
	// Those who read the new value need it until they have read the old one again.
	for !w.accepts(rotation.FinishGrace) {
		time.Sleep(20 * time.Millisecond)
	}
	w.decide(rotation.FinishGrace)
	res := w.end(run)
	if live := w.Cloud.LiveKeys(); res.Phase != rotation.RolledBack || len(live) != 1 || w.Cloud.PublishedKeys()[scenario.Path(scenario.Latest, "ci")] != w.oldID {
		t.Errorf("ended as %s with keys %v", res.Phase, live)
	}
	w.noSecrets()
}

// accepts reports whether the rotation would take a decision now.
func (w *town) accepts(k rotation.DecisionKind) bool {
	s, err := w.status()
	return err == nil && slices.Contains(s.Accepts, k)
}
