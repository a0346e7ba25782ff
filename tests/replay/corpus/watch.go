package corpus

import (
	"encoding/json"

	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/workflows"
)

// Watcher is a worker interceptor that sees which states rotations enter, and in which task they hear of a message. It sees
// the same when a history is replayed.
type Watcher struct {
	interceptor.WorkerInterceptorBase
	// Enter is called when a rotation comes to a state, Hear when a message has come. Both run in the workflow.
	Enter func(workflow.Context, rotation.State)
	Hear  func(workflow.Context, Message)
	// End, if set, is called with what a run returns.
	End func(result any, err error)
	// Asked, if set, is called when the code asks for the version of a change.
	Asked func(change string)
}

// Message is one that a rotation has heard.
type Message struct {
	Kind rotation.DecisionKind
	// Names: an emergency that names what leaked.
	Names bool
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
func (w *Watcher) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &watchInbound{interceptor.WorkflowInboundInterceptorBase{Next: next}, w}
}

type watchInbound struct {
	interceptor.WorkflowInboundInterceptorBase
	watcher *Watcher
}

func (i *watchInbound) Init(out interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&watchOutbound{interceptor.WorkflowOutboundInterceptorBase{Next: out}, i.watcher})
}

func (i *watchInbound) ExecuteWorkflow(ctx workflow.Context, in *interceptor.ExecuteWorkflowInput) (any, error) {
	if len(in.Args) == 1 {
		if begins, ok := in.Args[0].(workflows.Input); ok {
			i.watcher.Enter(ctx, first(begins))
		}
	}
	result, err := i.Next.ExecuteWorkflow(ctx, in)
	if i.watcher.End != nil {
		i.watcher.End(result, err)
	}
	return result, err
}

func (i *watchInbound) HandleSignal(ctx workflow.Context, in *interceptor.HandleSignalInput) error {
	if all := in.Arg.GetPayloads(); len(all) == 1 {
		i.watcher.Hear(ctx, message(in.SignalName, all[0].GetData()))
	}
	return i.Next.HandleSignal(ctx, in)
}

func (i *watchInbound) ExecuteUpdate(ctx workflow.Context, in *interceptor.UpdateInput) (any, error) {
	if len(in.Args) == 1 {
		if raw, ok := in.Args[0].(converter.RawValue); ok {
			i.watcher.Hear(ctx, message(in.Name, raw.Payload().GetData()))
		}
	}
	return i.Next.ExecuteUpdate(ctx, in)
}

func message(kind string, data []byte) Message {
	var m rotation.DecisionMessage
	_ = json.Unmarshal(data, &m) // what cannot be read names nothing
	return Message{Kind: rotation.DecisionKind(kind), Names: len(m.Leaked) > 0}
}

type watchOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
	watcher *Watcher
}

// GetLogger implements the interceptor: a rotation logs its transitions, at the moment of each.
func (o *watchOutbound) GetLogger(ctx workflow.Context) log.Logger {
	return &transitions{o.Next.GetLogger(ctx), ctx, o.watcher}
}

// GetVersion implements the interceptor.
func (o *watchOutbound) GetVersion(ctx workflow.Context, change string, oldest, newest workflow.Version) workflow.Version {
	if o.watcher.Asked != nil {
		o.watcher.Asked(change)
	}
	return o.Next.GetVersion(ctx, change, oldest, newest)
}

type transitions struct {
	log.Logger
	ctx     workflow.Context
	watcher *Watcher
}

func (t *transitions) Info(text string, pairs ...any) {
	t.Logger.Info(text, pairs...)
	for i := 0; text == "Transition" && i+1 < len(pairs); i += 2 {
		if to, ok := pairs[i+1].(string); ok && pairs[i] == "to" {
			t.watcher.Enter(t.ctx, ParseState(to))
		}
	}
}

// first is the state in which a run begins.
func first(in workflows.Input) rotation.State {
	switch {
	case in.Resume != nil:
		return in.Resume.At
	case len(in.Key.ConflictsWith) > 0:
		return rotation.State{Step: rotation.StepConflicts, Commitment: rotation.Looking}
	}
	return rotation.State{Step: rotation.StepPrepare, Commitment: rotation.Looking}
}
