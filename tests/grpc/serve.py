"""A gRPC server with the health service and nothing else, for the labs: serve.py PORT.

Each line of its input is "NAME STATUS", such as "shop.Cart NOT_SERVING", and takes effect at once.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

server = grpc.server(ThreadPoolExecutor(max_workers=4))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(f"0.0.0.0:{sys.argv[1]}")
server.start()
for line in sys.stdin:
    name, status = line.split()
    servicer.set(name, getattr(health_pb2.HealthCheckResponse, status))
