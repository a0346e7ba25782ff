package manykeys

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"google.golang.org/grpc"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/testenv"
)

// line is a connection to a Temporal in memory that loses the answers of long polls, as often as it is told.
type line struct {
	testing.TB
	*testenv.Temporal
	// lose is how many answers are still to be lost.
	lose  atomic.Int32
	polls atomic.Int32
}

func newLine(t testing.TB) *line {
	t.Helper()
	l := &line{TB: t}
	l.Temporal = testenv.StartTemporal(t, testenv.TemporalOptions{Dial: func(o *sdkclient.Options) {
		o.ConnectionOptions.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(l.intercept)}
	}})
	w := worker.New(l.Client, "line", worker.Options{})
	w.RegisterWorkflowWithOptions(rounds, workflow.RegisterOptions{Name: "rounds"})
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return l
}

func (l *line) intercept(ctx context.Context, method string, req, reply any, c *grpc.ClientConn, invoke grpc.UnaryInvoker, o ...grpc.CallOption) error {
	if r, ok := req.(*workflowservice.GetWorkflowExecutionHistoryRequest); ok && r.GetWaitNewEvent() {
		l.polls.Add(1)
		if l.lose.Add(-1) >= 0 {
			<-ctx.Done()
			return ctx.Err()
		}
	}
	return invoke(ctx, method, req, reply, c, o...)
}

// rounds is continued as new so many times, each at a signal, and tells how many there were.
func rounds(ctx workflow.Context, left, done int) (int, error) {
	workflow.GetSignalChannel(ctx, "go").Receive(ctx, nil)
	switch {
	case left < 0:
		return 0, temporal.NewNonRetryableApplicationError("it failed", "Failed", nil)
	case left > 0:
		return 0, workflow.NewContinueAsNewError(ctx, "rounds", left-1, done+1)
	}
	return done, nil
}

func (l *line) start(left int) sdkclient.WorkflowRun {
	l.Helper()
	run, err := l.Client.ExecuteWorkflow(l.Context(), sdkclient.StartWorkflowOptions{ID: "w", TaskQueue: "line"}, "rounds", left, 0)
	if err != nil {
		l.Fatal(err)
	}
	return run
}

func (l *line) goOn() {
	l.Helper()
	if err := l.Client.SignalWorkflow(l.Context(), "w", "", "go", nil); err != nil {
		l.Fatal(err)
	}
}

// latest is the run that is the latest now.
func (l *line) latest() string {
	l.Helper()
	d, err := l.Client.DescribeWorkflowExecution(l.Context(), "w", "")
	if err != nil {
		l.Fatal(err)
	}
	return d.GetWorkflowExecutionInfo().GetExecution().GetRunId()
}

// patience is far below the minute after which a client by itself asks again.
func patience(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestAnEndIsSeenThoughTheAnswerOfALongPollIsLost(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	run := l.start(0)
	l.goOn()
	l.lose.Store(2)
	got := -1
	if err := client.New(l.Client).WaitRun(patience(t), "w", run.GetRunID(), &got); err != nil || got != 0 || l.polls.Load() < 3 {
		t.Errorf("%d after %d polls, %v", got, l.polls.Load(), err)
	}
}

func TestAWaitFollowsARunThatIsContinuedAsNewAndNoOtherOne(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.start(2)
	got := make(chan int)
	l.lose.Store(1)
	go func() {
		n := -1
		if err := client.New(l.Client).WaitRun(patience(t), "w", "", &n); err != nil {
			t.Error(err)
		}
		got <- n
	}()
	// While the first poll is lost, the run that was the latest ends, and another one begins.
	for l.polls.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		run := l.latest()
		l.goOn()
		for l.latest() == run {
			time.Sleep(time.Millisecond)
		}
	}
	l.goOn()
	if err := client.New(l.Client).WaitRun(patience(t), "w", "", nil); err != nil {
		t.Fatal(err)
	}
	l.start(0)
	if n := <-got; n != 2 {
		t.Errorf("got the result %d", n)
	}
}

func TestAFailureIsSeenAsTheWorkflowsOwn(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	l.start(-1)
	l.goOn()
	err := client.New(l.Client).WaitRun(patience(t), "w", "", nil)
	if app, ok := errors.AsType[*temporal.ApplicationError](err); !ok || app.Type() != "Failed" {
		t.Errorf("got %v", err)
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	l := newLine(t)
	run := l.start(0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.New(l.Client).WaitRun(ctx, "w", run.GetRunID(), nil); err == nil {
		t.Error("it says that the workflow has ended")
	}
}
