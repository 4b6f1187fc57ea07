package main

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"lookalike.example/client"
	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
)

// tour is what the calls need; all of it was read before the first of them, but for the folder's files.
type tour struct {
	*options
	image, badImage []byte
	files           []string
}

// take goes through the steps until one fails, and tells what it saw. The error names the step; inside it, as in the
// error of every step, is a *client.Refusal.
func (t *tour) take(ctx context.Context, conn *grpc.ClientConn) (*report, error) {
	seen := &report{}
	steps := []struct {
		name string
		do   func() error
	}{
		{"health", func() (err error) { seen.Health, err = t.health(ctx, conn); return }},
		{"model", func() (err error) { seen.Model, err = t.model(ctx, conn); return }},
		{"search_by_image", func() (err error) { seen.SearchByImage, err = t.searchByImage(ctx, conn); return }},
		{"search_by_id", func() (err error) { seen.SearchByID, err = t.searchByID(ctx, conn); return }},
		{"embed_stream", func() (err error) { seen.EmbedStream, err = t.embedStream(ctx, conn); return }},
		{"bad_image", func() (err error) { seen.BadImage, err = t.embedBadImage(ctx, conn); return }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			refusal, _ := errors.AsType[*client.Refusal](err)
			seen.Failed = &failure{Step: step.name, Error: refusal}
			return seen, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return seen, nil
}

// call makes one call within the deadline, repeats included.
func call[Request, Reply any](
	ctx context.Context, t *tour, request *Request,
	method func(context.Context, *Request, ...grpc.CallOption) (*Reply, error),
) (*Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	var trailer metadata.MD
	reply, err := method(ctx, request, grpc.Trailer(&trailer))
	if err != nil {
		return nil, client.FromError(err, trailer)
	}
	return reply, nil
}

func (t *tour) health(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	reply, err := call(ctx, t, &healthv1.HealthCheckRequest{}, healthv1.NewHealthClient(conn).Check)
	if err != nil {
		if refusal, _ := errors.AsType[*client.Refusal](err); refusal.Code == "UNAVAILABLE" {
			err = fmt.Errorf("no server answers at %s (%w)", t.server, err)
		}
		return "", err
	}
	if status := reply.GetStatus(); status != healthv1.HealthCheckResponse_SERVING {
		return "", refuse(codes.Unavailable, "the server's health is "+status.String())
	}
	return reply.GetStatus().String(), nil
}

func (t *tour) model(ctx context.Context, conn *grpc.ClientConn) (*model, error) {
	embedding := lookalikev1.NewEmbeddingServiceClient(conn)
	reply, err := call(ctx, t, &lookalikev1.GetModelRequest{}, embedding.GetModel)
	if err != nil {
		return nil, err
	}
	return describeModel(reply), nil
}

func (t *tour) searchByImage(ctx context.Context, conn *grpc.ClientConn) (*answer, error) {
	return t.search(ctx, conn, &lookalikev1.SearchRequest{
		Query:    &lookalikev1.SearchRequest_Image{Image: encoded(t.image)},
		Category: t.category,
		K:        &t.k,
	})
}

func (t *tour) searchByID(ctx context.Context, conn *grpc.ClientConn) (*answer, error) {
	return t.search(ctx, conn, &lookalikev1.SearchRequest{
		Query: &lookalikev1.SearchRequest_ProductId{ProductId: t.productID},
		K:     &t.k,
	})
}

func (t *tour) search(
	ctx context.Context, conn *grpc.ClientConn, request *lookalikev1.SearchRequest,
) (*answer, error) {
	reply, err := call(ctx, t, request, lookalikev1.NewSearchServiceClient(conn).Search)
	if err != nil {
		return nil, err
	}
	return describeAnswer(reply), nil
}

// embedBadImage tells how the server refuses a file that is no picture; it leads to nil where the server takes it. Any
// other refusal says nothing of the file.
func (t *tour) embedBadImage(ctx context.Context, conn *grpc.ClientConn) (**client.Refusal, error) {
	embedding := lookalikev1.NewEmbeddingServiceClient(conn)
	_, err := call(ctx, t, &lookalikev1.EmbedRequest{Image: encoded(t.badImage)}, embedding.Embed)
	refusal, refused := errors.AsType[*client.Refusal](err)
	if refused && refusal.Code != "INVALID_ARGUMENT" {
		return nil, refusal
	}
	return &refusal, nil
}

func encoded(file []byte) *lookalikev1.Image {
	return &lookalikev1.Image{Source: &lookalikev1.Image_Encoded{Encoded: file}}
}
