from sagemaker_containers._env import training_only

CSV = "csv"
LIBSVM = "libsvm"
PARQUET = "parquet"
RECORDIO_PROTOBUF = "recordio-protobuf"
get_content_type = get_csv_dmatrix = get_dmatrix = get_libsvm_dmatrix = get_size = training_only
check_data_redundancy = get_parquet_dmatrix = get_recordio_protobuf_dmatrix = validate_data_file_path = training_only
