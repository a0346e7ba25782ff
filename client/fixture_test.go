package client_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/devserver"
	"github.com/rekeyhq/rekey/internal/simcloud/scenario"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/engine"
	"github.com/rekeyhq/rekey/workflows"
)

var (
	// temporal is a Temporal in memory, with rekey's workers, that all tests share. Each test has keys of its own.
	temporal sdkclient.Client
	// keys are those of rekey.yaml, by name.
	keys = map[string]rotation.Key{}
)

// The keys that rekey makes and revokes by itself, and those where a person does.
var (
	automatic = []string{"ci-deploy", "ci-build", "ci-test", "laptop-1", "laptop-2", "lost-start", "raised"}
	byHand    = []string{"openai-prod", "openai-decide", "openai-watch", "openai-inbox"}
)

func TestMain(m *testing.M) {
	stop, err := setUp()
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	stop()
	os.Exit(code)
}

func setUp() (stop func(), err error) {
	var stops []func()
	stop = func() {
		for i := len(stops) - 1; i >= 0; i-- {
			stops[i]()
		}
	}
	ctx := context.Background()
	cloud, err := scenario.Start(scenario.Options{
		Policy: []string{"grace: 0s", "soak: 0s", "quiet: 0s", "recheck: 1s"}, Propagation: "1s", RevocationLag: "1s", Mode: "create", KeyBits: 1024,
	})
	if err != nil {
		return stop, err
	}
	stops = append(stops, cloud.Stop)
	for _, name := range automatic {
		if _, err := cloud.Google(name, scenario.Alias); err != nil {
			return stop, err
		}
	}
	for _, name := range byHand {
		if _, err := cloud.OpenAIKey(name, scenario.Alias); err != nil {
			return stop, err
		}
	}
	cfg, err := config.Parse("rekey.yaml", []byte(cloud.YAML()))
	if err != nil {
		return stop, err
	}
	for _, k := range cfg.Keys {
		keys[k.Name] = k
	}
	acts, err := adapters.Open(ctx, cfg, nil)
	if err != nil {
		return stop, err
	}
	server, err := devserver.Start(ctx, devserver.Options{SearchAttributes: workflows.SearchAttributes()})
	if err != nil {
		return stop, err
	}
	stops = append(stops, func() { _ = server.Stop() })
	o := server.ClientOptions()
	o.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	if temporal, err = sdkclient.DialContext(ctx, o); err != nil {
		return stop, err
	}
	stops = append(stops, temporal.Close)
	workers, err := engine.Start(ctx, temporal, server.Namespace(), acts, engine.Options{})
	if err != nil {
		return stop, err
	}
	stops = append(stops, workers.Stop)
	return stop, nil
}
