//go:build !noembed

package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sashabaranov/go-openai"

	"github.com/rekeyhq/rekey/activities"
	"github.com/rekeyhq/rekey/internal/config"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/secret"
)

// traffic is the demo's application: for each key it reads the value from the store as applications do, keeps it
// for a second, and sends requests with it all the time.
type traffic struct {
	sent, failed atomic.Int64
	cancel       context.CancelFunc
	running      sync.WaitGroup
	once         sync.Once

	mu    sync.Mutex
	first string
}

// Every application keeps the value for as long as this before it reads it again.
const cached = time.Second

func startTraffic(ctx context.Context, cfg *config.Config, acts *activities.Environment, openAIURL string) *traffic {
	ctx, cancel := context.WithCancel(ctx) //nolint:gosec // stop calls it
	t := &traffic{cancel: cancel}
	for _, k := range cfg.Keys {
		for _, l := range k.Stores {
			t.running.Go(func() { t.application(ctx, k, l, acts, openAIURL) })
		}
	}
	return t
}

// stop ends the requests; the last ones are answered before it returns.
func (t *traffic) stop() {
	t.once.Do(t.cancel)
	t.running.Wait()
}

func (t *traffic) application(ctx context.Context, k rotation.Key, l rotation.Location, acts *activities.Environment, openAIURL string) {
	var value secret.Value
	var read time.Time
	tick := time.NewTicker(40 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A request that is under way when the demo ends is finished, not failed.
		request, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := func() error {
			defer cancel()
			if time.Since(read) > cached {
				v, err := acts.Stores[l.Store].Published(request, l.Path)
				if err != nil {
					return err
				}
				value, read = v, time.Now()
			}
			if k.Provider == "openai" {
				return chat(request, openAIURL, value)
			}
			return exchange(request, acts, k, value)
		}()
		t.sent.Add(1)
		if err != nil {
			t.failed.Add(1)
			t.mu.Lock()
			if t.first == "" {
				t.first = fmt.Sprintf("%s in %s: %v", k.Name, l.Store, err)
			}
			t.mu.Unlock()
		}
	}
}

func (t *traffic) firstFailure() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// chat asks OpenAI something.
func chat(ctx context.Context, url string, key secret.Value) error {
	c := openai.DefaultConfig(key.Reveal())
	c.BaseURL, c.HTTPClient = url, &http.Client{Timeout: 5 * time.Second}
	models, err := openai.NewClientWithConfig(c).ListModels(ctx)
	if err != nil {
		return fmt.Errorf("OpenAI refused the request")
	}
	_, err = openai.NewClientWithConfig(c).CreateChatCompletion(ctx, openai.ChatCompletionRequest{
		Model: models.Models[0].ID, Messages: []openai.ChatCompletionMessage{{Role: openai.ChatMessageRoleUser, Content: "Are you there?"}},
	})
	if err != nil {
		return fmt.Errorf("OpenAI refused the request")
	}
	return nil
}

// exchange gets an access token from Google, as every client of Google does with its key.
func exchange(ctx context.Context, acts *activities.Environment, k rotation.Key, key secret.Value) error {
	proof, err := acts.Providers[k.Provider].Probe(ctx, k.Account, key)
	if err == nil && !proof.Accepted {
		err = fmt.Errorf("Google refused the key (%s)", proof.Code)
	}
	return err
}
