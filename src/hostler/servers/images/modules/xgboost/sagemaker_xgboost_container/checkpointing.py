from sagemaker_containers._env import training_only

load_checkpoint = print_checkpointed_evaluation = save_checkpoint = save_intermediate_model = train = training_only
