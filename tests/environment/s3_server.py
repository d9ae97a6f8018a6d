"""An S3 in a process of its own: `python s3_server.py PORT`.

moto's server answers one request at a time here, because its look before a conditional put and the put itself are two
steps, which S3's are not.
"""

import sys

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

make_server("127.0.0.1", int(sys.argv[1]), DomainDispatcherApplication(create_backend_app)).serve_forever()
