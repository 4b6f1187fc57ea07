"""CatalogService over a catalog in memory, as far as the client can see it."""

# the names are those of the API's methods
# ruff: noqa: N802

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

import grpc
import numpy as np
from google.rpc import status_pb2

from lookalike.v1 import catalog_service_pb2, catalog_service_pb2_grpc, image_pb2, product_pb2
from support.fake_rejections import Rejection, invalid, reject
from support.fake_state import FakeState, embedding_of


class FakeCatalog(FakeState, catalog_service_pb2_grpc.CatalogServiceServicer):
    """The service and its streams."""

    def UpsertProducts(
        self, request: catalog_service_pb2.UpsertProductsRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.UpsertProductsResponse:
        """Each product by itself; an image without the right first bytes is none."""
        self._arrive(request, context)
        if self.on_upsert:
            self.on_upsert()
        results = []
        for place, product in enumerate(request.products):
            rejection = self._store(f"products[{place}]", product)
            status = rejection.status() if rejection else status_pb2.Status()
            results.append(product_pb2.ItemStatus(id=product.id, status=status))
        return catalog_service_pb2.UpsertProductsResponse(results=results)

    def ImportProducts(
        self, request_iterator: Iterator[catalog_service_pb2.ImportProductsRequest], context: grpc.ServicerContext
    ) -> Iterator[catalog_service_pb2.ImportProductsResponse]:
        """Each product by itself, in the order in which they come."""
        for request in request_iterator:
            self._arrive(request, context)
            if self.on_upsert:
                self.on_upsert()
            rejection = self._store("product", request.product)
            status = rejection.status() if rejection else status_pb2.Status()
            result = product_pb2.ItemStatus(id=request.product.id, status=status)
            yield catalog_service_pb2.ImportProductsResponse(result=result)

    def _store(self, place: str, product: product_pb2.ProductInput) -> Rejection | None:
        planned = self.item_rejections.get(product.id)
        if planned:
            return planned.pop(0)
        if not product.category:
            return invalid(f"{place}.category", "required")
        try:
            values = [embedding_of(each) for each in product.images]
        except ValueError as error:
            return invalid(f"{place}.images[0].encoded", str(error))
        values += [np.array(each.values, dtype=np.float32) for each in product.vectors]
        stored = product_pb2.Product(
            id=product.id,
            category=product.category,
            title=product.title,
            image_uri=product.image_uri,
            attributes=product.attributes,
        )
        self._keep(stored, values, [each.encoded for each in product.images] or [None] * len(product.vectors))
        return None

    def UpdateAttributes(
        self, request: catalog_service_pb2.UpdateAttributesRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.UpdateAttributesResponse:
        """`attributes` are set, `clear` is removed."""
        self._arrive(request, context)
        product, _ = self._find(request.id, context)
        product.attributes.update(request.attributes)
        for name in request.clear:
            product.attributes.pop(name, None)
        return catalog_service_pb2.UpdateAttributesResponse(product=product)

    def DeleteProducts(
        self, request: catalog_service_pb2.DeleteProductsRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.DeleteProductsResponse:
        """Each id by itself."""
        self._arrive(request, context)
        results = []
        for product_id in request.ids:
            status = status_pb2.Status()
            if self.products.pop(product_id, None) is None:
                status = Rejection(grpc.StatusCode.NOT_FOUND, f"no product {product_id!r}").status()
            results.append(product_pb2.ItemStatus(id=product_id, status=status))
        return catalog_service_pb2.DeleteProductsResponse(results=results)

    def GetProduct(
        self, request: catalog_service_pb2.GetProductRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.GetProductResponse:
        """One product."""
        self._arrive(request, context)
        product, _ = self._find(request.id, context)
        return catalog_service_pb2.GetProductResponse(product=product, image_count=1)

    def GetImage(
        self, request: catalog_service_pb2.GetImageRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.GetImageResponse:
        """An image as it came."""
        self._arrive(request, context)
        self._find(request.id, context)
        images = self.images[request.id]
        if request.image_index >= len(images):
            reject(context, invalid("image_index", f"is {request.image_index}; the product has {len(images)} images"))
        data = images[request.image_index]
        if data is None:
            name = f"{request.id}/{request.image_index}"
            reject(context, Rejection(grpc.StatusCode.NOT_FOUND, f"no image {name!r}"))
        return catalog_service_pb2.GetImageResponse(
            encoded=data, media_type="image/jpeg", sha256=hashlib.sha256(data).hexdigest()
        )

    def ListProducts(
        self, request: catalog_service_pb2.ListProductsRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.ListProductsResponse:
        """A page; its token is its last id."""
        self._arrive(request, context)
        size = request.page_size or 100
        found = [
            product
            for product_id, (product, _) in sorted(self.products.items())
            if product_id > request.page_token and request.category in ("", product.category)
        ]
        token = found[size - 1].id if len(found) > size else ""
        return catalog_service_pb2.ListProductsResponse(products=found[:size], next_page_token=token)

    def ExportProducts(
        self, request: catalog_service_pb2.ExportProductsRequest, context: grpc.ServicerContext
    ) -> Iterator[catalog_service_pb2.ExportProductsResponse]:
        """All of them, or those before the next cut."""
        self._arrive(request, context)
        found = [
            product for _, (product, _) in sorted(self.products.items()) if request.category in ("", product.category)
        ]
        if request.category and not found:
            reject(context, Rejection(grpc.StatusCode.NOT_FOUND, f"no category {request.category!r}"))
        cut = self.cuts.pop(0) if self.cuts else None
        for product in [each for each in found if each.id > request.after_id][:cut]:
            yield catalog_service_pb2.ExportProductsResponse(
                product=product,
                vectors=[image_pb2.Vector(values=values.tolist()) for values in self.vectors[product.id]],
            )
            if self._hold:
                held, released = self._hold
                held.set()
                released.wait()
        if cut is not None:
            reject(context, Rejection(grpc.StatusCode.UNAVAILABLE, "going away", pushback_ms=-1))

    def ListCategories(
        self, request: catalog_service_pb2.ListCategoriesRequest, context: grpc.ServicerContext
    ) -> catalog_service_pb2.ListCategoriesResponse:
        """The categories, and their products' attributes if asked."""
        self._arrive(request, context)
        by_category: dict[str, list[product_pb2.Product]] = {}
        for product, _ in self.products.values():
            by_category.setdefault(product.category, []).append(product)
        return catalog_service_pb2.ListCategoriesResponse(
            categories=[
                catalog_service_pb2.Category(
                    name=name,
                    count=len(products),
                    index_kind=catalog_service_pb2.INDEX_KIND_FLAT,
                    attributes=_attributes(products) if request.include_attributes else (),
                    recall=self.recalls.get(name),
                )
                for name, products in sorted(by_category.items())
            ]
        )


def _attributes(products: list[product_pb2.Product]) -> list[catalog_service_pb2.AttributeFacet]:
    counts: dict[str, Counter[str]] = {}
    for product in products:
        for name, value in product.attributes.items():
            counts.setdefault(name, Counter())[value] += 1
    return [
        catalog_service_pb2.AttributeFacet(
            name=name,
            distinct_values=len(values),
            top_values=[
                catalog_service_pb2.ValueCount(value=value, count=count) for value, count in values.most_common()
            ],
        )
        for name, values in sorted(counts.items())
    ]
