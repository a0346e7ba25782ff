package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/worker/triggers"
	"github.com/rekeyhq/rekey/workflows"
)

// finding is one thing that doctor looked at.
type finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

func (a *app) doctor() *cobra.Command {
	var tell bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check Temporal, the workers, and every provider and store; changes nothing",
		Long: `Looks at everything that a rotation needs: Temporal and its search attributes, a worker on every task queue, and
for each key what the first step of a rotation looks at; the listener for triggers, if there is one; and the channels on
which people are told: their secrets, and whether somebody listens there. --notify tells each channel something. Providers and stores are asked from here, with this
machine's credentials; the worker may have others.`,
		Example: `  rekey doctor
  rekey doctor --notify
  rekey doctor --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.config()
			if err != nil {
				return err
			}
			findings := a.examineTemporal(cmd.Context(), cfg)
			findings = append(findings, examineKeys(cmd.Context(), cfg)...)
			findings = append(findings, examineTriggers(cmd.Context(), cfg)...)
			findings = append(findings, examineChannels(cmd.Context(), cfg, tell)...)
			var b strings.Builder
			bad := 0
			for _, f := range findings {
				mark := "ok  "
				if !f.OK {
					mark, bad = "FAIL", bad+1
				}
				fmt.Fprintf(&b, "%s  %-32s %s\n", mark, f.What, f.Detail)
			}
			if err := a.print(map[string]any{"findings": findings, "healthy": bad == 0}, strings.TrimRight(b.String(), "\n")); err != nil {
				return err
			}
			if bad > 0 {
				return fmt.Errorf("%d of %d checks failed", bad, len(findings))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&tell, "notify", false, "send a test message to every channel")
	return cmd
}

func (a *app) examineTemporal(ctx context.Context, cfg *config.Config) []finding {
	c, namespace, err := a.dial(ctx)
	if err != nil {
		return []finding{{"Temporal", false, err.Error()}}
	}
	defer c.Close()
	all := []finding{{"Temporal", true, "answers, namespace " + namespace}}
	switch missing, err := engine.MissingSearchAttributes(ctx, c, namespace); {
	case err != nil:
		all = append(all, finding{"search attributes", false, err.Error()})
	case len(missing) > 0:
		all = append(all, finding{"search attributes", false, "missing; run: " + engine.CreateCommand(namespace, missing)})
	default:
		all = append(all, finding{"search attributes", true, "registered"})
	}
	all = append(all, examineQueue(ctx, c, workflows.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW))
	for _, name := range slices.Sorted(maps.Keys(cfg.Providers)) {
		all = append(all, examineQueue(ctx, c, workflows.ProviderTaskQueue(name), enumspb.TASK_QUEUE_TYPE_WORKFLOW))
	}
	return all
}

// examineQueue asks whether a worker polls a task queue.
func examineQueue(ctx context.Context, c client.Client, queue string, kind enumspb.TaskQueueType) finding {
	d, err := c.DescribeTaskQueue(ctx, queue, kind)
	switch {
	case err != nil:
		return finding{"task queue " + queue, false, "Temporal does not tell: " + err.Error()}
	case len(d.GetPollers()) == 0:
		return finding{"task queue " + queue, false, "no worker polls it. Start one: rekey-worker --config …"}
	}
	return finding{"task queue " + queue, true, fmt.Sprintf("%d worker(s)", len(d.GetPollers()))}
}

// examineKeys runs the first step of a rotation for every key: it looks at everything and changes nothing.
func examineKeys(ctx context.Context, cfg *config.Config) []finding {
	acts, err := adapters.Look(ctx, cfg)
	if err != nil {
		return []finding{{"providers and stores", false, err.Error()}}
	}
	var all []finding
	for _, k := range cfg.Keys {
		all = append(all, examineKey(ctx, acts, k))
	}
	return all
}

func examineKey(ctx context.Context, acts *activities.Environment, k rotation.Key) finding {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p, err := acts.Prepare(ctx, activities.PrepareInput{
		Target: activities.Target{Key: k, Rotation: "doctor"}, Reason: rotation.Scheduled, StartedAt: time.Now(),
	})
	var f *fault.Error
	switch what := "key " + k.Name; {
	case errors.As(err, &f):
		return finding{what, false, f.Error()}
	case err != nil:
		return finding{what, false, "cannot be examined"}
	case p.Question != nil:
		return finding{what, false, p.Question.Text}
	case p.OldRefused:
		return finding{what, false, p.Verdict.Message}
	default:
		return finding{what, true, p.Verdict.Message}
	}
}

// examineTriggers looks whether the worker's listener for triggers can be reached, and its secrets be read, from here.
func examineTriggers(ctx context.Context, cfg *config.Config) []finding {
	t := cfg.Triggers
	if t == nil {
		return nil
	}
	all := []finding{{"triggers, secrets", true, fmt.Sprintf("%d source(s)", len(t.Sources))}}
	if err := triggers.Check(*t); err != nil {
		all[0] = finding{"triggers, secrets", false, err.Error()}
	}
	dialer := net.Dialer{Timeout: 5 * time.Second}
	c, err := dialer.DialContext(ctx, "tcp", t.Listen)
	if err != nil {
		return append(all, finding{"triggers, listener", false, "nobody listens on " + t.Listen + " as seen from here. Does a worker run on this machine?"})
	}
	_ = c.Close()
	return append(all, finding{"triggers, listener", true, "listens on " + t.Listen})
}
