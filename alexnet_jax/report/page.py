"""stub"""
def write(folder): return str(folder)
