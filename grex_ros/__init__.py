import pkgutil

# The generated message modules live in another folder of the same package name.
__path__ = pkgutil.extend_path(__path__, __name__)
