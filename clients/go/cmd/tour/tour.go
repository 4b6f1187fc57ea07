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

// tour holds the inputs of the calls. All but the folder's files are read before the first call.
type tour struct {
	*options
	image, badImage []byte
	files           []string
}

// run runs the steps until one fails and returns their results. The error names the step and, like the error of every
// step, wraps a *client.CallError.
func (t *tour) run(ctx context.Context, conn *grpc.ClientConn) (*report, error) {
	results := &report{}
	steps := []struct {
		name string
		run  func() error
	}{
		{"health", func() (err error) { results.Health, err = t.health(ctx, conn); return }},
		{"model", func() (err error) { results.Model, err = t.model(ctx, conn); return }},
		{"search_by_image", func() (err error) { results.SearchByImage, err = t.searchByImage(ctx, conn); return }},
		{"search_by_id", func() (err error) { results.SearchByID, err = t.searchByID(ctx, conn); return }},
		{"embed_stream", func() (err error) { results.EmbedStream, err = t.embedStream(ctx, conn); return }},
		{"bad_image", func() (err error) { results.BadImage, err = t.embedBadImage(ctx, conn); return }},
	}
	for _, step := range steps {
		if err := step.run(); err != nil {
			callError, _ := errors.AsType[*client.CallError](err)
			results.Failed = &failure{Step: step.name, Error: callError}
			return results, fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return results, nil
}

// call makes one call within the deadline, retries included.
func call[Request, Response any](
	ctx context.Context, t *tour, request *Request,
	method func(context.Context, *Request, ...grpc.CallOption) (*Response, error),
) (*Response, error) {
	ctx, cancel := context.WithTimeout(ctx, t.deadline)
	defer cancel()
	var trailer metadata.MD
	response, err := method(ctx, request, grpc.Trailer(&trailer))
	if err != nil {
		return nil, client.FromError(err, trailer)
	}
	return response, nil
}

func (t *tour) health(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	response, err := call(ctx, t, &healthv1.HealthCheckRequest{}, healthv1.NewHealthClient(conn).Check)
	if err != nil {
		if callError, _ := errors.AsType[*client.CallError](err); callError.Code == "UNAVAILABLE" {
			err = fmt.Errorf("no server responds at %s (%w)", t.server, err)
		}
		return "", err
	}
	if status := response.GetStatus(); status != healthv1.HealthCheckResponse_SERVING {
		return "", newError(codes.Unavailable, "the server's health is "+status.String())
	}
	return response.GetStatus().String(), nil
}

func (t *tour) model(ctx context.Context, conn *grpc.ClientConn) (*model, error) {
	embedding := lookalikev1.NewEmbeddingServiceClient(conn)
	response, err := call(ctx, t, &lookalikev1.GetModelRequest{}, embedding.GetModel)
	if err != nil {
		return nil, err
	}
	return describeModel(response), nil
}

func (t *tour) searchByImage(ctx context.Context, conn *grpc.ClientConn) (*searchResult, error) {
	return t.search(ctx, conn, &lookalikev1.SearchRequest{
		Query:    &lookalikev1.SearchRequest_Image{Image: encoded(t.image)},
		Category: t.category,
		K:        &t.k,
	})
}

func (t *tour) searchByID(ctx context.Context, conn *grpc.ClientConn) (*searchResult, error) {
	return t.search(ctx, conn, &lookalikev1.SearchRequest{
		Query: &lookalikev1.SearchRequest_ProductId{ProductId: t.productID},
		K:     &t.k,
	})
}

func (t *tour) search(
	ctx context.Context, conn *grpc.ClientConn, request *lookalikev1.SearchRequest,
) (*searchResult, error) {
	response, err := call(ctx, t, request, lookalikev1.NewSearchServiceClient(conn).Search)
	if err != nil {
		return nil, err
	}
	return describeSearch(response), nil
}

// embedBadImage returns the error for a file that is not an image, a pointer to nil where the server accepts it. Errors
// other than INVALID_ARGUMENT are not about the file.
func (t *tour) embedBadImage(ctx context.Context, conn *grpc.ClientConn) (**client.CallError, error) {
	embedding := lookalikev1.NewEmbeddingServiceClient(conn)
	_, err := call(ctx, t, &lookalikev1.EmbedRequest{Image: encoded(t.badImage)}, embedding.Embed)
	callError, failed := errors.AsType[*client.CallError](err)
	if failed && callError.Code != "INVALID_ARGUMENT" {
		return nil, callError
	}
	return &callError, nil
}

func encoded(file []byte) *lookalikev1.Image {
	return &lookalikev1.Image{Source: &lookalikev1.Image_Encoded{Encoded: file}}
}
