package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"

	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
)

// leak raises an emergency over everything that was made so far, as the command line does, and gives the ids of it.
func (w *env) leak(m rotation.DecisionMessage) []string {
	w.Helper()
	var made []string
	for _, e := range w.Cloud.Journal() {
		if e.Kind == simcloud.KeyCreated {
			made = append(made, e.KeyID)
		}
	}
	w.rules.MayDie = append(w.rules.MayDie, made...)
	m.ID, m.By, m.Why = "incident-1", "e2e", "leaked"
	if err := (client.New(w.Client)).Raise(context.Background(), w.key(), m); err != nil {
		w.Fatal(err)
	}
	return made
}

// latest is the latest run of the key, followed to the end of all that follow it.
func (w *env) latest() sdkclient.WorkflowRun {
	return w.Client.GetWorkflow(context.Background(), w.id(), "")
}

func (w *env) contained(res rotation.Result, leaked []string) {
	w.Helper()
	w.replaced(res)
	live := w.Cloud.LiveKeys()
	for _, id := range leaked {
		if _, ok := live[id]; ok {
			w.Errorf("%s leaked and is still live", id)
		}
	}
	if !slices.ContainsFunc(res.Decisions, func(d rotation.Decision) bool { return d.ID == "incident-1" }) {
		w.Errorf("the result does not know of the emergency: %v", res.Decisions)
	}
}

func TestAWorkerKilledInAnEmergencyLosesNothing(t *testing.T) {
	t.Parallel()
	for _, moments := range spread(steps([]string{"Prepare", "Create", "Promote", "Revoke", "Confirm", "Retire"}, "Create", "Revoke")) {
		t.Run("killed at "+strings.Join(moments, " "), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)}, moments...)
			leaked := w.leak(rotation.DecisionMessage{RevokeFirst: true})
			w.contained(w.end(w.latest()), leaked)
			w.Killed()
			w.noSecrets()
		})
	}
}

func TestAnEmergencyStopsARotationInGraceAndAnotherFollowsAtOnce(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	first := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	leaked := w.leak(rotation.DecisionMessage{})
	// Raised again, by somebody who did not get the answer.
	w.leak(rotation.DecisionMessage{})
	res := w.end(first)
	w.contained(res, leaked)
	if len(leaked) != 2 || len(w.Cloud.LiveKeys()) != 1 || len(res.Revoked) != 2 {
		t.Errorf("leaked %v, revoked %v", leaked, res.Revoked)
	}
	s, err := client.New(w.Client).Latest(context.Background(), w.name)
	if err != nil || s.Running || s.Reason != rotation.Emergency || s.Phase != rotation.Completed || s.Result == nil || s.Result.Rotation != res.Rotation {
		t.Errorf("it stands as %+v, %v", s, err)
	}
}

func TestAnEmergencyHurriesARotationThatIsAboutToRevokeWhatLeaked(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	run := w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	minted := w.Cloud.Calls("google-iam", "UploadServiceAccountKey")
	w.leak(rotation.DecisionMessage{Leaked: []string{w.First(w.name).Fingerprint()}})
	res := w.end(run)
	w.contained(res, []string{w.oldID})
	if res.Rotation != rotation.ID(run.GetRunID()) || res.Reason != rotation.Emergency || w.Cloud.Calls("google-iam", "UploadServiceAccountKey") != minted {
		t.Errorf("it was served by another rotation: %+v", res)
	}
}

func TestAnEmergencyIsKeptWhileNoWorkerIsThere(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{})
	w.AwaitWorkerProcess()
	w.StopWorkerProcess()
	leaked := w.leak(rotation.DecisionMessage{})
	w.StartWorkerProcess()
	w.contained(w.end(w.latest()), leaked)
}

func TestAFollowersResultIsItsOwn(t *testing.T) {
	t.Parallel()
	w := newEnv(t, scenario.Options{Policy: append([]string{"grace: 1h"}, fast[1:]...)})
	w.start(rotation.Manual)
	w.waitFor(rotation.Grace)
	w.leak(rotation.DecisionMessage{})
	// The follower is terminated: how the one before it stopped is not its result.
	w.Cloud.Inject(simcloud.Fault{Service: "google-iam", Method: "UploadServiceAccountKey", Kind: simcloud.Refuse, Code: 503})
	w.waitFor(rotation.Create)
	if err := w.Client.TerminateWorkflow(context.Background(), w.id(), "", "by mistake"); err != nil {
		t.Fatal(err)
	}
	s, err := client.New(w.Client).Latest(context.Background(), w.name)
	if err != nil || s.Running || s.Result != nil {
		t.Errorf("it stands as %+v, %v", s, err)
	}
}
