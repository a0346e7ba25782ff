//go:build !noembed

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	sdkclient "go.temporal.io/sdk/client"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

// The keys of the demo.
const (
	automatic = "ci-deploy"
	byHand    = "openai-prod"
	failing   = "data-export"
)

// summary is what the demo ends with.
type summary struct {
	// Outcome is "ok", or what was wrong.
	Outcome        string `json:"outcome"`
	Rotations      int    `json:"rotations"`
	RequestsSent   int64  `json:"requests_sent"`
	RequestsFailed int64  `json:"requests_failed"`
	OldKeysRefused int    `json:"old_keys_refused"`
	Orphans        int    `json:"orphans"`
}

func (a *app) demo() *cobra.Command {
	var keep, noUI bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch three keys being rotated under live traffic, on this machine alone",
		Long: `Starts a Temporal server with its UI, a simulated cloud on loopback, rekey's workers, and a client that sends
requests all the time. Then it rotates a Google service account key by itself, an OpenAI key with the help of a
person (the demo plays that part, and says so), and a key whose replacement does not work, which is rolled back.

Needs nothing but Go, changes nothing outside a temporary folder, and takes less than half a minute.`,
		Example: `  rekey demo
  rekey demo --keep     leave everything running, to look around in the UI
  rekey demo --json     print only the summary, as one object`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{app: a, ctx: cmd.Context(), text: a.out}
			if a.json {
				d.text = io.Discard
			}
			defer d.stop()
			if err := d.setUp(!noUI); err != nil {
				return err
			}
			return d.perform(keep)
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave everything running until Ctrl-C")
	cmd.Flags().BoolVar(&noUI, "no-ui", false, "do not start the Temporal UI")
	return cmd
}

// perform runs the demo on what setUp has started, and says how it went.
func (d *demo) perform(keep bool) error {
	s, err := d.run()
	if err != nil {
		return err
	}
	if err := d.app.print(s, s.String()); err != nil {
		return err
	}
	if keep {
		d.say("\nEverything keeps running.%s\nThe demo's rekey.yaml: %s\nTo look at it:  go run ./starter status --config %s --address %s\nStop it with Ctrl-C.", d.uiHint(), d.file, d.file, d.server.HostPort())
		<-d.ctx.Done()
	}
	if s.Outcome != "ok" {
		return fmt.Errorf("the demo went wrong: %s", s.Outcome)
	}
	return nil
}

func (s summary) String() string {
	return fmt.Sprintf(`
Summary
  outcome           %s
  rotations         %d
  requests sent     %d
  requests failed   %d
  old keys refused  %d
  orphans           %d`, s.Outcome, s.Rotations, s.RequestsSent, s.RequestsFailed, s.OldKeysRefused, s.Orphans)
}

// demo is everything that runs.
type demo struct {
	app  *app
	ctx  context.Context
	text io.Writer

	dir, file string
	scene     *scenario.Scenario
	cfg       *config.Config
	acts      *engine.Setup
	server    *devserver.Server
	client    sdkclient.Client
	workers   *engine.Workers
	traffic   *traffic
	stops     []func()
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.text, format+"\n", args...) }

func (d *demo) onStop(f func()) { d.stops = append(d.stops, f) }

func (d *demo) stop() {
	for i := len(d.stops) - 1; i >= 0; i-- {
		d.stops[i]()
	}
}

func (d *demo) uiURL() string {
	return fmt.Sprintf("%s/namespaces/%s/workflows", d.server.UIURL(), d.server.Namespace())
}

func (d *demo) uiHint() string {
	if d.server.UIURL() == "" {
		return ""
	}
	return " UI: " + d.uiURL()
}

// setUp starts the cloud, Temporal and the workers.
func (d *demo) setUp(ui bool) (err error) {
	if d.dir, err = os.MkdirTemp("", "rekey-demo-"); err != nil {
		return err
	}
	d.onStop(func() { _ = os.RemoveAll(d.dir) })
	if d.scene, err = scenario.Start(scenario.Options{
		Dir: d.dir, RequestTimeout: "5s", Propagation: "2s", RevocationLag: "2s",
		// What takes days in production takes seconds here.
		Policy: []string{"grace: 3s", "soak: 1s", "quiet: 0s", "recheck: 1s", "step_timeout: 10s", "period: 30d"},
	}); err != nil {
		return err
	}
	d.onStop(d.scene.Stop)
	if err := d.makeKeys(); err != nil {
		return err
	}
	d.file = d.dir + "/rekey.yaml"
	if err := os.WriteFile(d.file, []byte(d.scene.YAML()), 0o600); err != nil {
		return err
	}
	if d.cfg, err = config.Load(d.file); err != nil {
		return err
	}
	if d.acts, err = adapters.Open(d.ctx, d.cfg, nil); err != nil {
		return err
	}
	began := time.Now()
	if d.server, err = devserver.Start(d.ctx, devserver.Options{UI: ui, SearchAttributes: workflows.SearchAttributes()}); err != nil {
		return err
	}
	d.onStop(func() { _ = d.server.Stop() })
	o := d.server.ClientOptions()
	o.Logger = silent
	if d.client, err = sdkclient.DialContext(d.ctx, o); err != nil {
		return err
	}
	d.onStop(d.client.Close)
	if d.workers, err = engine.Start(d.ctx, d.client, d.server.Namespace(), d.acts, engine.Options{}); err != nil {
		return err
	}
	d.onStop(d.workers.Stop)
	d.say("Temporal is up after %s, with a simulated cloud and rekey's workers in this process.", time.Since(began).Truncate(time.Millisecond))
	if ui {
		d.say("Watch it in the Temporal UI: %s", d.uiURL())
	}
	return nil
}

func (d *demo) makeKeys() error {
	if _, err := d.scene.Google(automatic, scenario.Alias, scenario.Latest); err != nil {
		return err
	}
	if _, err := d.scene.OpenAIKey(byHand, scenario.Local); err != nil {
		return err
	}
	oldID, err := d.scene.Google(failing, scenario.Alias)
	if err != nil {
		return err
	}
	// The replacement of this key will never be accepted.
	d.scene.Cloud.Inject(simcloud.Fault{Service: "google-token", Target: scenario.Account(failing), Except: oldID, Kind: simcloud.Refuse, Code: 400})
	return nil
}

// run rotates the three keys under traffic and judges what happened.
func (d *demo) run() (summary, error) {
	d.traffic = startTraffic(d.ctx, d.cfg, d.acts.Environment, d.scene.OpenAI.URL)
	defer d.traffic.stop()
	d.say("A client now sends requests all the time, with the keys that it reads from the stores.")
	wanted := []struct {
		key, story string
		phase      rotation.Phase
	}{
		{automatic, "1. A Google service account key, in two stores: rekey does all of it.", rotation.Completed},
		{byHand, "2. An OpenAI key: the provider's API neither makes nor revokes keys for us, so a person does two steps. The demo acts as that person.", rotation.Completed},
		{failing, "3. A key whose replacement the provider refuses: applications never see it.", rotation.RolledBack},
	}
	s := summary{Outcome: "ok"}
	for _, w := range wanted {
		d.say("\n%s", w.story)
		res, err := d.rotate(w.key)
		if err != nil {
			return s, err
		}
		s.Rotations++
		if res.Phase != w.phase {
			s.Outcome = fmt.Sprintf("the rotation of %s ended as %s: %s", w.key, res.Phase, res.Outcome)
		}
	}
	d.traffic.stop()
	s.RequestsSent, s.RequestsFailed = d.traffic.sent.Load(), d.traffic.failed.Load()
	for _, key := range []string{automatic, byHand} {
		refused, err := d.refused(key, d.scene.First(key))
		if err != nil {
			return s, err
		}
		if refused {
			s.OldKeysRefused++
		}
	}
	s.Orphans = len(d.scene.Cloud.Orphans())
	broken := d.scene.Cloud.Check(scenario.Rules(automatic, scenario.Alias, scenario.Latest))
	switch {
	case s.Outcome != "ok":
	case s.RequestsFailed > 0:
		s.Outcome = "requests failed: " + d.traffic.firstFailure()
	case s.RequestsSent == 0:
		s.Outcome = "no requests were sent"
	case s.OldKeysRefused != 2:
		s.Outcome = "an old key still works"
	case s.Orphans != 0:
		s.Outcome = "orphans were left"
	case len(broken) > 0:
		s.Outcome = broken[0]
	}
	return s, nil
}

func (d *demo) refused(key string, old secret.Value) (bool, error) {
	k, _ := d.cfg.Key(key)
	proof, err := d.acts.Providers[k.Provider].Probe(d.ctx, k.Account, old)
	return !proof.Accepted, err
}

// rotate runs one rotation to its end, and shows and explains each phase.
func (d *demo) rotate(key string) (rotation.Result, error) {
	k, _ := d.cfg.Key(key)
	rekey := client.New(d.client)
	if _, err := rekey.Start(d.ctx, client.Request{Key: k, By: "the demo", Why: "to show how it works"}); err != nil {
		return rotation.Result{}, err
	}
	p := &progress{out: d.text, tty: isTerminal(d.text)}
	defer p.stop()
	for step, err := range rekey.Watch(d.ctx, key) {
		if err != nil {
			return rotation.Result{}, err
		}
		p.enter(step.TrailEntry)
		switch {
		case step.Result != nil:
			p.close(step.Result.EndedAt)
			d.say("         %s", step.Result.Outcome)
			return *step.Result, nil
		case step.Status != nil && step.Phase.Waiting():
			p.close(time.Now())
			if err := d.operate(k, *step.Status); err != nil {
				return rotation.Result{}, err
			}
		}
	}
	return rotation.Result{}, fmt.Errorf("the rotation of %s was not watched to its end", key)
}

// operate does what a person would do in the provider's console, and then notifies the rotation as a person would.
func (d *demo) operate(k rotation.Key, s rotation.Status) error {
	switch s.Phase {
	case rotation.AwaitingKey:
		d.say("        (the demo, as operator: creates a key in the OpenAI console and runs `rekey supply %s`)", k.Name)
		_, value := d.scene.OpenAI.CreateKey(k.Account, "made by hand, again")
		version, _, err := d.acts.StageSupplied(d.ctx, k, s.Rotation, value)
		if err != nil {
			return err
		}
		_, err = decide(d.ctx, d.client, k.Name, rotation.KeySupplied, rotation.DecisionMessage{ID: "demo-supply", By: "the demo", Version: version})
		return err
	case rotation.AwaitingRevocation:
		d.say("        (the demo, as operator: deletes the old key in the OpenAI console and runs `rekey key-revoked %s`)", k.Name)
		for _, key := range d.scene.OpenAI.Keys(k.Account) {
			if key.Name == "made by hand" {
				if err := d.scene.OpenAI.DeleteKey(key.ID); err != nil {
					return err
				}
			}
		}
		_, err := decide(d.ctx, d.client, k.Name, rotation.KeyRevoked, rotation.DecisionMessage{ID: "demo-revoked", By: "the demo"})
		return err
	}
	return fmt.Errorf("the rotation of %s waits in %s, which the demo did not expect: %s", k.Name, s.Phase, s.Details)
}
