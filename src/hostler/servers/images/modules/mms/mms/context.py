from hostler.servers.scripts.context import Context, RequestProcessor

__all__ = ["Context", "RequestProcessor"]
