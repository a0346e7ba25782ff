package manykeys

import (
	"context"
	"sync"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/activity"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
	"github.com/rekeyhq/rekey/workflows/replaytest"
)

// looks are how often the present look has been tried, and how many events the emergency has.
func (h *stubs) looks() (attempt int32, events int64) {
	h.Helper()
	d, err := h.Client.DescribeWorkflowExecution(h.ctx, workflows.EmergencyID("em1"), "")
	if err != nil {
		h.Fatal(err)
	}
	for _, a := range d.GetPendingActivities() {
		attempt = a.GetAttempt()
	}
	return attempt, d.GetWorkflowExecutionInfo().GetHistoryLength()
}

// settled waits until the key waits for a person and the emergency for news of it.
func (h *stubs) settled(key string) {
	h.Helper()
	h.until("the key waits for a person", func() bool { return h.row(key).State == workflows.Waiting })
	h.until("the look is tried again", func() bool { n, _ := h.looks(); return n >= 2 })
}

// ended waits for the result, and checks that the history replays.
func (h *stubs) ended() (f workflows.EmergencyProgress) {
	h.Helper()
	f, _ = h.endedWith()
	return f
}

// endedWith is ended, and gives the history, too.
func (h *stubs) endedWith() (f workflows.EmergencyProgress, history *historypb.History) {
	h.Helper()
	if err := client.New(h.Client).WaitRun(h.ctx, workflows.EmergencyID("em1"), "", &f); err != nil {
		h.Fatal(err)
	}
	history, err := replaytest.Check(h.ctx, h.Client, workflows.EmergencyID("em1"), "")
	if err != nil {
		h.Error(err)
	}
	return f, history
}

func patient(ctx workflow.Context, in workflows.Input) error {
	if err := waits(ctx); err != nil {
		return err
	}
	return served(ctx, in)
}

func (h *stubs) decide(key string) {
	h.Helper()
	if err := h.Client.SignalWorkflow(h.ctx, workflows.ID(key), "", "go", nil); err != nil {
		h.Fatal(err)
	}
}

func TestLookingAgainLeavesNoEvent(t *testing.T) {
	t.Parallel()
	h := newStubs(t, patient, "slow")
	h.start(1)
	h.settled("slow")
	_, before := h.looks()
	h.until("three more looks", func() bool { n, _ := h.looks(); return n >= 5 })
	if _, after := h.looks(); after != before {
		t.Errorf("three looks made %d events", after-before)
	}
	h.decide("slow")
	f, history := h.endedWith()
	if events := len(history.GetEvents()); !f.Complete() || events > 50 {
		t.Errorf("%d events: %+v", events, f)
	} else {
		t.Logf("%d events in all", events)
	}
	if err := replaytest.Keep(history, "emergency-waits"); err != nil {
		t.Error(err)
	}
}

func TestACancelEndsTheLookAndNothingElse(t *testing.T) {
	t.Parallel()
	h := newStubs(t, patient, "slow")
	h.start(1)
	h.settled("slow")
	if err := h.Client.CancelWorkflow(h.ctx, workflows.EmergencyID("em1"), ""); err != nil {
		t.Fatal(err)
	}
	if f := h.ended(); !f.Cancelled || f.Keys[0].State != workflows.Waiting {
		t.Errorf("%+v", f)
	}
	d, err := h.Client.DescribeWorkflowExecution(h.ctx, workflows.ID("slow"), "")
	if err != nil || d.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
		t.Errorf("the rotation: %v, %v", d.GetWorkflowExecutionInfo().GetStatus(), err)
	}
}

func TestAnotherWorkerGoesOnLookingWhereOneHasEnded(t *testing.T) {
	t.Parallel()
	h := newStubs(t, patient, "slow")
	h.start(1)
	h.settled("slow")
	h.worker.Stop()
	h.decide("slow")
	h.work()
	if f := h.ended(); !f.Complete() {
		t.Errorf("%+v", f)
	}
}

// grave is where the looks of a worker end that has died: no answer, and no heartbeat.
type grave struct {
	interceptor.WorkerInterceptorBase
	once  sync.Once
	died  chan struct{}
	again chan struct{}
}

func (g *grave) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &buried{interceptor.ActivityInboundInterceptorBase{Next: next}, g}
}

type buried struct {
	interceptor.ActivityInboundInterceptorBase
	g *grave
}

func (b *buried) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	if info := activity.GetInfo(ctx); info.ActivityType.Name == activities.StatusesName && info.Attempt == 3 {
		b.g.once.Do(func() {
			close(b.g.died)
			<-b.g.again
		})
	}
	return b.Next.ExecuteActivity(ctx, in)
}

func TestALookThatDiesWithItsWorkerIsTriedAgain(t *testing.T) {
	t.Parallel()
	h := newStubs(t, patient, "slow")
	h.worker.Stop()
	g := &grave{died: make(chan struct{}), again: make(chan struct{})}
	h.work(g)
	t.Cleanup(func() { close(g.again) })
	h.start(1)
	select {
	case <-g.died:
	case <-h.ctx.Done():
		t.Fatal("there was no third look")
	}
	h.decide("slow")
	if f := h.ended(); !f.Complete() {
		t.Errorf("%+v", f)
	}
}

func TestOneRecordThatCannotBeReadIsTheProblemOfOneKey(t *testing.T) {
	t.Parallel()
	h := newStubs(t, func(ctx workflow.Context, in workflows.Input) error {
		if in.Key.Name == "bad" && in.Why != "mended" {
			return workflow.UpsertMemo(ctx, map[string]any{workflows.ResultMemo: "no result at all"})
		}
		return served(ctx, in)
	}, "bad", "good-1", "good-2", "good-3")
	// One at a time: while the bad one holds the only place, no other begins.
	h.start(1)
	h.until("the others are done", func() bool { f := h.progress(); return f.Counts()[workflows.Done] == 3 })
	if r := h.row("bad"); !r.Unreadable || r.Why != "What its rotation has recorded cannot be read (memo)" {
		t.Errorf("its row: %+v", r)
	}
	// Whatever comes to be known of the key is seen.
	_, err := h.Client.ExecuteWorkflow(h.ctx, sdkclient.StartWorkflowOptions{ID: workflows.ID("bad"), TaskQueue: workflows.ProviderTaskQueue("played")}, "RotateKey",
		workflows.Input{Key: h.keys[0], Reason: rotation.Emergency, Why: "mended", Emergencies: []rotation.Decision{{DecisionMessage: rotation.DecisionMessage{ID: "em1"}}}})
	if err != nil {
		t.Fatal(err)
	}
	if f := h.ended(); !f.Complete() {
		t.Errorf("%+v", f)
	}
}

// badRecord leaves a rotation of the key whose result nobody can read.
func (h *stubs) badRecord(t *testing.T, key string) {
	t.Helper()
	old, err := h.Client.ExecuteWorkflow(h.ctx, sdkclient.StartWorkflowOptions{
		ID: workflows.ID(key), TaskQueue: "nobody works here", Memo: map[string]any{workflows.ResultMemo: "no result at all"},
	}, "RotateKey", workflows.Input{})
	if err == nil {
		err = h.Client.TerminateWorkflow(h.ctx, old.GetID(), old.GetRunID(), "to leave a bad record")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnOldRecordThatCannotBeReadHoldsNoEmergencyUp(t *testing.T) {
	t.Parallel()
	h := newStubs(t, served, "key")
	h.badRecord(t, "key")
	h.start(1)
	if f := h.ended(); !f.Complete() || f.Keys[0].Raises != 1 {
		t.Errorf("%+v", f)
	}
}

func TestAnOldRecordThatCannotBeReadHoldsNoTriggerUp(t *testing.T) {
	t.Parallel()
	for sentence, leaked := range map[string]bool{"a rotation": false, "an emergency": true} {
		t.Run(sentence, func(t *testing.T) {
			t.Parallel()
			h := newStubs(t, served, "key")
			h.badRecord(t, "key")
			l := launcher(h.Client, []rotation.Key{{Name: "key", Provider: "google"}})
			out, err := l.StartRotation(h.ctx, activities.StartInput{Key: "key", By: "webhook ci", Why: "asked", Leaked: leaked, ID: "leak-1"})
			if err != nil || !out.Started {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
}
