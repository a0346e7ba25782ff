package lockstep

import (
	"bytes"
	"context"
	"fmt"

	historypb "go.temporal.io/api/history/v1"
	namespacepb "go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// answer is what a worker made of a task; it waits for the reply.
type answer struct {
	completed *workflowservice.RespondWorkflowTaskCompletedRequest
	failed    *workflowservice.RespondWorkflowTaskFailedRequest
	query     *workflowservice.RespondQueryTaskCompletedRequest
	reply     chan reply
}

type reply struct {
	completed *workflowservice.RespondWorkflowTaskCompletedResponse
	err       error
}

// intercept answers every call of a worker's client. It copies what it hands over: neither side may see the other
// change a message.
func (h *host) intercept(ctx context.Context, method string, req, resp any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
	f := h.f
	switch req := req.(type) {
	case *workflowservice.GetSystemInfoRequest:
		fill(resp, &workflowservice.GetSystemInfoResponse{Capabilities: &workflowservice.GetSystemInfoResponse_Capabilities{
			SignalAndQueryHeader: true, InternalErrorDifferentiation: true, ActivityFailureIncludeHeartbeat: true,
			EncodedFailureAttributes: true, UpsertMemo: true, SdkMetadata: true, BuildIdBasedVersioning: true, CountGroupByExecutionStatus: true,
		}})
	case *workflowservice.DescribeNamespaceRequest:
		fill(resp, &workflowservice.DescribeNamespaceResponse{NamespaceInfo: &namespacepb.NamespaceInfo{Name: namespace}})
	case *workflowservice.PollWorkflowTaskQueueRequest:
		queue := h.normal
		if req.GetTaskQueue().GetNormalName() != "" {
			queue = h.sticky
		}
		select {
		case task := <-queue:
			fill(resp, task)
		case <-ctx.Done():
		}
	case *workflowservice.RespondWorkflowTaskCompletedRequest:
		r, err := f.take(req.GetTaskToken(), answer{completed: proto.CloneOf(req)})
		if err != nil {
			return err
		}
		fill(resp, r.completed)
	case *workflowservice.RespondWorkflowTaskFailedRequest:
		_, err := f.take(req.GetTaskToken(), answer{failed: proto.CloneOf(req)})
		return err
	case *workflowservice.RespondQueryTaskCompletedRequest:
		_, err := f.take(req.GetTaskToken(), answer{query: proto.CloneOf(req)})
		return err
	case *workflowservice.GetWorkflowExecutionHistoryRequest:
		events, err := f.wholeHistory(req.GetExecution().GetRunId())
		if err != nil {
			return err
		}
		fill(resp, &workflowservice.GetWorkflowExecutionHistoryResponse{History: &historypb.History{Events: events}})
	case *workflowservice.ShutdownWorkerRequest, *workflowservice.RecordWorkerHeartbeatRequest, *workflowservice.ResetStickyTaskQueueRequest:
	default:
		f.complain(fmt.Sprintf("a worker called %s, which lockstep does not know", method))
		return status.Error(codes.Unimplemented, "lockstep does not know "+method)
	}
	return nil
}

func fill(to any, from proto.Message) {
	if from != nil {
		proto.Merge(to.(proto.Message), from)
	}
}

// take hands an answer to the test's goroutine and waits for the reply.
func (f *Frontend) take(token []byte, a answer) (reply, error) {
	f.mu.Lock()
	known := f.current != nil && bytes.Equal(f.current.GetTaskToken(), token)
	f.mu.Unlock()
	if !known {
		return reply{}, status.Error(codes.NotFound, "nobody waits for this task")
	}
	// Buffered: the test may be over before the worker reads the reply.
	a.reply = make(chan reply, 1)
	over := status.Error(codes.NotFound, "the test is over")
	select {
	case f.answers <- a:
	case <-f.done:
		return reply{}, over
	}
	select {
	case r := <-a.reply:
		return r, r.err
	case <-f.done:
		return reply{}, over
	}
}

// wholeHistory is what a worker asks for that has a task but not the workflow in its cache.
func (f *Frontend) wholeHistory(runID string) ([]*historypb.HistoryEvent, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.whole == nil || f.whole.RunID != runID {
		return nil, status.Error(codes.NotFound, "no task of this run is under way")
	}
	return f.whole.events, nil
}

func (f *Frontend) complain(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.strange = append(f.strange, what)
}

// check fails the test for what workers did behind its back.
func (f *Frontend) check() {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.strange) > 0 {
		f.t.Fatalf("lockstep: %v", f.strange)
	}
}
