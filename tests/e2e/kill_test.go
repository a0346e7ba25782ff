package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// automatic are the activities of a rotation that needs no person.
var automatic = []string{"Prepare", "Create", "Store", "Verify", "Promote", "CheckHealth", "Guard", "Revoke", "Confirm", "Retire"}

// spread spreads the moments just before and just after each activity over some rotations, so that no rotation has both of
// one activity: each time it is the first try that dies.
func spread(activities []string) [][]string {
	n := max(2, len(activities)/2)
	moments := make([][]string, n)
	for i, a := range activities {
		moments[i%n] = append(moments[i%n], a+"/before")
		moments[(i+1)%n] = append(moments[(i+1)%n], a+"/after")
	}
	return moments
}

func TestAWorkerKilledAroundAnyActivityLosesNothing(t *testing.T) {
	t.Parallel()
	for _, moments := range spread(automatic) {
		t.Run("killed at "+strings.Join(moments, " "), func(t *testing.T) {
			t.Parallel()
			// Long enough for a look at the new key's health.
			w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 4s"}, fast[1:]...)}, moments...)
			w.replaced(w.end(w.start(rotation.Manual)))
			w.Killed()
			w.noSecrets()
		})
	}
}

func TestAWorkerKilledWhileARollBackDiscardsLosesNothing(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"before", "after"} {
		t.Run("killed just "+when+" Discard", func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, scenario.Options{}, "Discard/"+when)
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

func TestAMintWhoseReplyDiesWithTheWorkerLeavesOneKey(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{})
	reached, release := make(chan struct{}), make(chan struct{})
	w.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Times: 1, Kind: simcloud.CommitLate, Reached: reached, Release: release})
	run := w.start(rotation.Manual)
	<-reached
	w.KillWorker()
	// The key is made after the process that asked for it has died.
	close(release)
	w.replaced(w.end(run))
	w.noSecrets()
}

func TestAMintThatTakesEffectAfterItsRetryIsSwept(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{})
	w.keep("late-mint")
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
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	w.keep("inherited-duty")
	w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	if err := w.Client.TerminateWorkflow(context.Background(), w.id(), "", "somebody clicked the wrong button"); err != nil {
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
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	w.keep("reset")
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	minted := w.Cloud.Calls("google-iam", "UploadServiceAccountKey")
	w.resetTo(run.GetRunID(), "Create")
	w.waitFor(rotation.Grace)
	w.decide(rotation.FinishGrace)
	w.replaced(w.end(w.Client.GetWorkflow(context.Background(), w.id(), "")))
	if w.Cloud.Calls("google-iam", "UploadServiceAccountKey") != minted {
		t.Error("the reset minted another key")
	}
}

func TestOneKeyRotatesOnceAtATime(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
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
	w := newEnv(t, scenario.Options{Quota: true})
	run := w.start(rotation.Manual)
	w.replaced(w.end(run))
}

func TestARollBackAfterPromoteGoesThroughReverse(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
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
func (w *env) accepts(k rotation.DecisionKind) bool {
	s, err := w.status()
	return err == nil && slices.Contains(s.Accepts, k)
}
