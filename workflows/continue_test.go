package workflows_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// goOn takes up the rotation in a new run, as Temporal does after continue-as-new.
func (r *fixture) goOn() {
	r.Helper()
	r.env.ExecuteWorkflow(workflows.RotateKey, r.in)
	var again *workflow.ContinueAsNewError
	if err := r.env.GetWorkflowError(); !errors.As(err, &again) {
		r.Fatalf("the run ended with %v, want continue-as-new", err)
	}
	r.takeUp(again)
}

// takeUp makes the environment of the run that continues this one.
func (r *fixture) takeUp(again *workflow.ContinueAsNewError) {
	r.Helper()
	var in workflows.Input
	if err := converter.GetDefaultDataConverter().FromPayloads(again.Input, &in); err != nil {
		r.Fatal(err)
	}
	r.in = in
	r.newEnv(r.env.Now())
	r.register()
	r.env.SetContinuedExecutionRunID("the run before")
}

func TestALongHistoryIsContinuedWithoutLosingAnything(t *testing.T) {
	t.Parallel()
	t.Run("in grace", func(t *testing.T) {
		r := newFixture(t, bothStores())
		begin := r.now()
		r.after(day, func() { r.env.SetContinueAsNewSuggested(true) })
		r.goOn()
		if got := r.now().Sub(begin); got < day || got > 2*day {
			t.Fatalf("continued after %s, want within grace", got)
		}
		res := r.run()
		r.replaced(res)
		if took := res.EndedAt.Sub(begin); took < 2*day || took > 2*day+2*time.Hour {
			t.Errorf("it took %s: the grace period began again, or was cut short", took)
		}
		if len(res.Trail) < 8 || res.Trail[0].Phase != rotation.Prepare {
			t.Errorf("the trail lost its beginning: %v", res.Trail)
		}
	})
	t.Run("while it waits for a person, with a decision before and one after", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.after(time.Hour, func() { r.signal(rotation.KeySupplied, rotation.DecisionMessage{By: "o", Version: "99"}) })
		r.after(2*time.Hour, func() { r.env.SetContinueAsNewSuggested(true) })
		r.goOn()
		r.after(time.Hour, func() {
			if s := r.status(); s.Phase != rotation.AwaitingKey || !strings.Contains(s.Details, "no readable version 99") {
				t.Errorf("phase %s\n%s", s.Phase, s.Details)
			}
			r.supply()
		})
		r.after(4*day, func() {
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		res := r.run()
		r.replaced(res)
		if len(res.Decisions) != 3 {
			t.Errorf("decisions %v, want three", res.Decisions)
		}
	})
	t.Run("with a key that was supplied before anybody asked for it", func(t *testing.T) {
		r := newFixture(t, manualKey())
		r.whenStarted("Prepare", func() {
			r.supply()
			r.env.SetContinueAsNewSuggested(true)
		})
		r.goOn()
		r.after(time.Hour, func() {
			if s := r.status(); s.Phase != rotation.Grace {
				t.Errorf("phase %s: it waits for a key that it has\n%s", s.Phase, s.Details)
			}
		})
		r.after(3*day, func() {
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		r.replaced(r.run())
	})
	t.Run("with a revocation that was reported in grace", func(t *testing.T) {
		r := newFixture(t, manualKey())
		begin := r.now()
		r.after(time.Hour, func() { r.supply() })
		r.after(10*time.Hour, func() {
			r.rules.MayDie = []string{r.oldID}
			_ = r.OpenAI.DeleteKey(r.oldID)
			r.signal(rotation.KeyRevoked, rotation.DecisionMessage{})
		})
		r.after(11*time.Hour, func() { r.env.SetContinueAsNewSuggested(true) })
		r.goOn()
		res := r.run()
		r.replaced(res)
		if took := res.EndedAt.Sub(begin); took > 3*day {
			t.Errorf("it took %s: somebody was asked once more", took)
		}
	})
	t.Run("while it goes in reverse", func(t *testing.T) {
		r := newFixture(t, bothStores().policy(quick))
		r.after(day, func() { r.signal(rotation.RollBack, rotation.DecisionMessage{}) })
		r.after(day+time.Hour, func() { r.env.SetContinueAsNewSuggested(true) })
		r.goOn()
		r.unchanged(r.run())
	})
}

func TestARotationCannotBeStartedInTheMiddle(t *testing.T) {
	t.Parallel()
	for sentence, in := range map[string]workflows.Input{
		"with a made-up state":                        {Resume: &workflows.State{At: rotation.State{Step: rotation.StepDelete, Commitment: rotation.ForwardOnly}}},
		"with made-up decisions of a rotation before": {Carry: &workflows.CarryOver{Round: 1, Decisions: []rotation.Decision{{Kind: rotation.Approve, Signer: &rotation.Signer{Operator: "alice"}}}}},
	} {
		t.Run(sentence, func(t *testing.T) {
			r := newFixture(t, bothStores())
			in.Key, in.Reason = r.in.Key, rotation.Emergency
			r.env.ExecuteWorkflow(workflows.RotateKey, in)
			var refused *temporal.ApplicationError
			if err := r.env.GetWorkflowError(); !errors.As(err, &refused) || !refused.NonRetryable() {
				t.Fatalf("got %v", err)
			}
			if len(r.started) != 0 || !r.live(r.oldID) {
				t.Errorf("activities %v ran", r.started)
			}
		})
	}
}
