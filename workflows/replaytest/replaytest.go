// Package replaytest reads what workflows have written and replays it: whatever happened to its workers, the code must
// come to the same decisions on it. Tests use it; tests/replay holds a corpus.
package replaytest

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/workflows"
)

// EnvCorpus is a folder; if it is set, Keep writes there.
const EnvCorpus = "REKEY_CORPUS"

// Check reads the history of a run (empty: the latest) and replays it.
func Check(ctx context.Context, c client.Client, id, run string) (*historypb.History, error) {
	h := &historypb.History{}
	iter := c.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for iter.HasNext() {
		e, err := iter.Next()
		if err != nil {
			return nil, fmt.Errorf("history of %s: %w", id, err)
		}
		h.Events = append(h.Events, e)
	}
	if err := Replay(h); err != nil {
		return nil, fmt.Errorf("the history of %s does not replay: %w", id, err)
	}
	return h, nil
}

// CheckAll is Check for the latest run of a workflow and those that it continues, the first one first.
func CheckAll(ctx context.Context, c client.Client, id string) ([]*historypb.History, error) {
	var all []*historypb.History
	for run := ""; ; {
		h, err := Check(ctx, c, id, run)
		if err != nil {
			return nil, err
		}
		all = slices.Insert(all, 0, h)
		if run = h.GetEvents()[0].GetWorkflowExecutionStartedEventAttributes().GetContinuedExecutionRunId(); run == "" {
			return all, nil
		}
	}
}

// Replay fails if the code of today comes to other decisions on the history, from its beginning. The interceptors watch it.
//
// Where operators have signed, the history must be of Temporal's default namespace or of a child workflow: what they sign
// names the namespace, and a history names only its parent's.
func Replay(h *historypb.History, watch ...interceptor.WorkerInterceptor) error {
	var began *historypb.WorkflowExecutionStartedEventAttributes
	if events := h.GetEvents(); len(events) > 0 {
		began = events[0].GetWorkflowExecutionStartedEventAttributes()
	}
	home := &atHome{namespace: cmp.Or(began.GetParentWorkflowNamespace(), client.DefaultNamespace)}
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: append([]interceptor.WorkerInterceptor{home}, watch...)})
	if err != nil {
		return err
	}
	workflows.Register(r)
	return r.ReplayWorkflowHistoryWithOptions(silent, h, worker.ReplayWorkflowHistoryOptions{OriginalExecution: workflow.Execution{ID: began.GetWorkflowId()}})
}

// atHome lets a workflow that is replayed see the namespace in which it ran.
type atHome struct {
	interceptor.WorkerInterceptorBase
	namespace string
}

func (a *atHome) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &inbound{interceptor.WorkflowInboundInterceptorBase{Next: next}, a.namespace}
}

type inbound struct {
	interceptor.WorkflowInboundInterceptorBase
	namespace string
}

func (i *inbound) Init(out interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&outbound{interceptor.WorkflowOutboundInterceptorBase{Next: out}, i.namespace})
}

type outbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	namespace string
}

func (o *outbound) GetInfo(ctx workflow.Context) *workflow.Info {
	info := *o.Next.GetInfo(ctx)
	info.Namespace = o.namespace
	return &info
}

// Keep writes the history into the corpus, if one is wanted, under the name of the scenario that it shows.
func Keep(h *historypb.History, scenario string) error {
	dir := os.Getenv(EnvCorpus)
	if dir == "" {
		return nil
	}
	file, err := Encode([]*historypb.History{h})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, scenario+Ext), file, 0o644) //nolint:gosec // it goes into the repository
}

var silent = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
