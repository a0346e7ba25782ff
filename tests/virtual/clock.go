package virtual

import (
	"context"
	"sync"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
)

// skipTime is a gRPC interceptor: every workflow that is started skips the time of its timers, and its children do. The field
// is experimental; this is the only place that knows it, and devserver.Options.SkipTime the one that switches it on.
func skipTime(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	config := &commonpb.TimeSkippingConfig{Enabled: true, MaxSessionSkipCount: 1 << 30}
	switch r := req.(type) {
	case *workflowservice.StartWorkflowExecutionRequest:
		r.TimeSkippingConfig = config
	case *workflowservice.SignalWithStartWorkflowExecutionRequest:
		r.TimeSkippingConfig = config
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

// clock is the time of one world. It follows the workflows: an activity begins at the virtual moment at which Temporal
// scheduled it. It never goes back.
type clock struct {
	mu         sync.Mutex
	base, real time.Time
}

func newClock() *clock {
	now := time.Now()
	return &clock{base: now, real: now}
}

// Now returns the virtual time.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *clock) now() time.Time { return c.base.Add(time.Since(c.real)) }

// advance reports whether the clock moved.
func (c *clock) advance(to time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !to.After(c.now()) {
		return false
	}
	c.base, c.real = to, time.Now()
	return true
}
