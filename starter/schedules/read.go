package schedules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	sdkclient "go.temporal.io/sdk/client"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"

	"github.com/rekeyhq/rekey/workflows"
)

// inParallel is how many requests are on their way at once.
const inParallel = 16

// Client reads and changes the schedules of one install in a namespace.
type Client struct {
	// Temporal is the connection; it stays the caller's to close.
	Temporal  sdkclient.Client
	Namespace string
	Install   string
	// Progress, if set, is called with how many keys of how many are done. One goroutine at a time calls it.
	Progress func(done, of int)
}

// Read reads the schedules of the given keys. A key without one is missing in the answer.
func (c *Client) Read(ctx context.Context, keys []string) ([]Actual, error) {
	all := make([]*Actual, len(keys))
	err := Each(ctx, len(keys), c.Progress, func(ctx context.Context, i int) (err error) {
		all[i], err = c.describe(ctx, keys[i])
		return err
	})
	var actual []Actual
	for _, a := range all {
		if a != nil {
			actual = append(actual, *a)
		}
	}
	return actual, err
}

// Others names the keys that have a schedule, of whichever install, and are not among the given ones. The list that it
// is taken from lags a moment behind; what it names is read again before anything is done.
func (c *Client) Others(ctx context.Context, keys []string) ([]string, error) {
	var names []string
	for token := []byte(nil); ; {
		page, err := retried(ctx, func(ctx context.Context) (*workflowservice.ListSchedulesResponse, error) {
			return c.Temporal.WorkflowService().ListSchedules(ctx, &workflowservice.ListSchedulesRequest{Namespace: c.Namespace, MaximumPageSize: 1000, NextPageToken: token})
		})
		if err != nil {
			return nil, fmt.Errorf("the schedules of namespace %s cannot be listed: %w", c.Namespace, err)
		}
		for _, s := range page.GetSchedules() {
			key, ours := strings.CutPrefix(s.GetScheduleId(), workflows.SchedulePrefix)
			if ours && !slices.Contains(keys, key) && !slices.Contains(names, key) {
				names = append(names, key)
			}
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			break
		}
	}
	slices.Sort(names)
	return names, nil
}

// describe reads one schedule from its own state; nil if there is none.
func (c *Client) describe(ctx context.Context, key string) (*Actual, error) {
	d, err := retried(ctx, func(ctx context.Context) (*workflowservice.DescribeScheduleResponse, error) {
		return c.Temporal.WorkflowService().DescribeSchedule(ctx, &workflowservice.DescribeScheduleRequest{Namespace: c.Namespace, ScheduleId: workflows.ScheduleID(key)})
	})
	if notFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("the schedule of %s cannot be read: %w", key, err)
	}
	info := d.GetInfo()
	a := &Actual{
		Key: key, Install: owner(d.GetMemo(), d.GetSchedule()), Settings: settings(d.GetSchedule()), token: d.GetConflictToken(),
		Paused: d.GetSchedule().GetState().GetPaused(), Note: d.GetSchedule().GetState().GetNotes(),
		Missed: Missed{TooLate: info.GetMissedCatchupWindow(), Overlapped: info.GetOverlapSkipped(), Dropped: info.GetBufferDropped()},
	}
	for _, t := range info.GetFutureActionTimes()[:min(3, len(info.GetFutureActionTimes()))] {
		a.Next = append(a.Next, t.AsTime())
	}
	return a, nil
}

func notFound(err error) bool {
	_, ok := errors.AsType[*serviceerror.NotFound](err)
	return ok
}

// retried asks again for a while when Temporal is busy or a moment away; the plain service client does not.
func retried[T any](ctx context.Context, call func(context.Context) (T, error)) (out T, err error) {
	for try := 0; ; try++ {
		once, cancel := context.WithTimeout(ctx, 10*time.Second)
		out, err = call(once)
		cancel()
		if err == nil || ctx.Err() != nil || try == 6 || !transient(err) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(100 * time.Millisecond << try):
		}
	}
}

// transient reports whether the same call may succeed in a moment. All of ours can be made twice. Temporal answers Unknown
// when one of its own parts is too busy.
func transient(err error) bool {
	switch serviceerror.ToStatus(err).Code() {
	case codes.Unavailable, codes.ResourceExhausted, codes.DeadlineExceeded, codes.Aborted, codes.Unknown, codes.Internal:
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// Each does something for 0…n-1, several at once, and reports how many are done. The first error stops it.
func Each(ctx context.Context, n int, progress func(done, of int), do func(context.Context, int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inParallel)
	var mu sync.Mutex
	done := 0
	for i := range n {
		group.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := do(ctx, i)
			if progress != nil {
				mu.Lock()
				defer mu.Unlock()
				done++
				progress(done, n)
			}
			return err
		})
	}
	return group.Wait()
}
