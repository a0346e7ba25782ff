// Command lambda is the rotation function of AWS Secrets Manager, for AWS Lambda: AWS's own schedule drives rotations
// of rekey. The work is done by the workers; this starts it and reports to AWS how far it is. It needs the file that
// REKEY_CONFIG names (rekey.yaml beside it if unset), the TEMPORAL_… variables of Temporal's environment configuration,
// and a role that may look at the secret and move its labels: docs/stores/aws-secrets-manager.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	_ "time/tzdata" // rekey.yaml may name time zones that Lambda does not have

	"github.com/aws/aws-lambda-go/lambda"
	sdkclient "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/envconfig"
	sdklog "go.temporal.io/sdk/log"

	"github.com/rekeyhq/rekey/client"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/internal/keyless"
	"github.com/rekeyhq/rekey/worker/adapters"
	"github.com/rekeyhq/rekey/worker/lambda/awsrotation"
)

func main() {
	logs := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if err := errors.Join(keyless.Arguments(os.Args[1:]), keyless.Environment(os.Getenv)); err != nil {
		fmt.Fprintln(os.Stderr, "lambda: "+err.Error())
		os.Exit(2)
	}
	h, err := handler(context.Background(), os.Getenv("REKEY_CONFIG"), logs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lambda: "+err.Error())
		os.Exit(1)
	}
	lambda.Start(func(ctx context.Context, event json.RawMessage) error { return h.Handle(ctx, event) })
}

// handler reads the file and makes what answers AWS. It connects to nobody yet: a Temporal that is down is an error of
// the call, which AWS repeats, and not of the function's start.
func handler(ctx context.Context, file string, logs *slog.Logger) (*awsrotation.Handler, error) {
	if file == "" {
		file = config.DefaultFile
	}
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	stores, err := adapters.AWSStores(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if len(stores) == 0 {
		return nil, fmt.Errorf("%s has no store of type %s", file, config.AWSSecretsManager)
	}
	o, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return nil, fmt.Errorf("the Temporal settings of the environment cannot be read: %w", err)
	}
	if err := errors.Join(keyless.Setting("Temporal's address", o.HostPort), keyless.Setting("Temporal's namespace", o.Namespace)); err != nil {
		return nil, err
	}
	o.Logger = sdklog.NewStructuredLogger(logs)
	c, err := sdkclient.NewLazyClient(o)
	if err != nil {
		return nil, fmt.Errorf("the Temporal settings of the environment cannot be used: %w", err)
	}
	h := &awsrotation.Handler{Stores: map[string]awsrotation.Secrets{}, Keys: cfg.Keys, Rotations: client.New(c), Log: logs}
	for name, s := range stores {
		h.Stores[name] = s
	}
	return h, nil
}
